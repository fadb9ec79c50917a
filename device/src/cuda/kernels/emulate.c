/* Runs a launch on the host, thread after thread, through the functions that the kernels are made of.
 *
 * Only the tests compile it. Stores are counted, so that each output is seen to be written once.
 */
#include <math.h>
#include <stdlib.h>

typedef float half_bits;
#define FUNCTION static inline
#define UNROLL
static _Thread_local long long stores;
FUNCTION float load_half(const float *from) { return *from; }
FUNCTION void store(float *to, float value) {
    stores++;
    *to = value;
}
/* Whether values that are f16 on a GPU are rounded to it. */
static _Thread_local int rounding;
FUNCTION float rounded(float value) {
    if (!rounding || isnan(value)) return value;
    /* Halfway from the largest f16 to the next power of two. */
    if (fabsf(value) >= 65520.0f) return copysignf(INFINITY, value);
    int exponent;
    frexpf(value, &exponent);
    /* Eleven bits from 2^-14 on, and steps of 2^-24 below. */
    float step = ldexpf(1.0f, (exponent > -13 ? exponent : -13) - 11);
    return rintf(value / step) * step;
}
FUNCTION void store_half(float *to, float value) { store(to, rounded(value)); }

#include "functions.h"

#include "emulate_instructions.h"
#include "fused_attention.h"

/* The grid of a launch: blocks, and threads of each. */
struct grid {
    int blocks, threads;
};

/* Rows that the warps of a grid have, of which there are `count`. */
static int rows_of(struct grid grid, int count) {
    int rows = grid.blocks * grid.threads / LANES;
    return rows < count ? rows : count;
}

static void emulate_residual_norm(float **p, const int *n, float epsilon, struct grid grid) {
    for (int row = 0; row < grid.blocks && row < n[0]; row++) {
        float sum = 0.0f, squares = 0.0f;
        for (int thread = 0; thread < grid.threads; thread++)
            sum += add_branch(row, thread, p[0], p[1], p[2], p[3], n[1], n[2]);
        if (!n[3]) continue;
        float mean = sum / n[1];
        for (int thread = 0; thread < grid.threads; thread++) squares += deviations(row, thread, p[0], n[1], mean);
        float factor = 1.0f / sqrtf(squares / n[1] + epsilon);
        for (int thread = 0; thread < grid.threads; thread++)
            write_normed(row, thread, p[0], p[4], p[5], p[6], p[7], n[1], n[4], mean, factor);
    }
}

static void emulate_softmax(float *scores, const float *log_sizes, const int *n, struct grid grid) {
    for (int row = 0; row < rows_of(grid, n[0]); row++) {
        float largest = -INFINITY, sum = 0.0f;
        for (int lane = 0; lane < LANES; lane++)
            largest = fmaxf(largest, largest_score(row, lane, scores, log_sizes, n[1], n[2], n[3], n[4], n[5]));
        for (int lane = 0; lane < LANES; lane++)
            sum += sum_exponentials(row, lane, scores, log_sizes, n[1], n[2], n[3], n[4], n[5], largest);
        for (int lane = 0; lane < LANES; lane++)
            write_shares(row, lane, scores, log_sizes, n[1], n[2], n[3], n[4], n[5], largest, sum);
    }
}

static void emulate_mean_keys(const float *keys, float *mean_keys, const int *n, struct grid grid) {
    for (int row = 0; row < rows_of(grid, n[0]); row++) {
        float squares = 0.0f;
        for (int lane = 0; lane < LANES; lane++) squares += squared_key(row, lane, keys, n[1], n[2], n[3], n[4], n[5]);
        for (int lane = 0; lane < LANES; lane++)
            write_key(row, lane, keys, mean_keys, n[1], n[2], n[3], n[4], n[5], squares);
    }
}

static void emulate_most_alike(const float *mean_keys, float *matches, const int *n, struct grid grid) {
    for (int row = 0; row < rows_of(grid, n[0]); row++) {
        struct match best = match_of_lane(row, 0, mean_keys, n[1], n[2]);
        for (int lane = 1; lane < LANES; lane++)
            best = better_match(best, match_of_lane(row, lane, mean_keys, n[1], n[2]));
        write_match(row, best, matches);
    }
}

static void emulate_choose_merged(float **p, const int *n, struct grid grid) {
    for (int image = 0; image < grid.blocks && image < n[0]; image++) {
        for (int token = 0; token < n[1]; token++) choose_joined(image, token, p[0], p[1], n[1], n[2], n[3]);
        for (int token = 0; token < n[1]; token++) place_token(image, token, p[1], p[2], p[3], n[1]);
        for (int token = 0; token < n[1]; token++)
            write_size(image, token, p[1], p[2], p[3], p[5], p[6], p[7], n[1], n[4], n[5]);
        for (int source = 0; source < n[4]; source++) move_group(image, source, p[2], p[4], n[1], n[4], n[5]);
    }
}

static void emulate_fused_attention(float **p, const int *n, float scale, int most, struct grid grid) {
    /* A tile's rows that no copy fills may hold anything on a GPU. */
    static _Thread_local float tiles[2][KEYS_OF_TILE * (MOST_DIMS + ROW_PADDING)];
    struct attention of = {n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11], scale};
    for (int block = 0; block < grid.blocks; block++) {
        for (int place = 0; place < KEYS_OF_TILE * (MOST_DIMS + ROW_PADDING); place++)
            tiles[0][place] = tiles[1][place] = NAN;
        attend(block, p[0], p[1], p[2], p[3], p[4], tiles[0], tiles[1], &of, most);
    }
}

/* Pointers, integers and numbers in the order of the kernel's parameters, on the threads that a GPU would run; returns how
 * many values were stored. */
long long emulate(int kernel, float **p, const int *n, float number, int round, int blocks, int threads) {
    struct grid grid = {blocks, threads};
    stores = 0;
    rounding = round;
    if (kernel == 5) emulate_residual_norm(p, n, number, grid);
    if (kernel == 6) emulate_softmax(p[0], p[1], n, grid);
    if (kernel == 8) emulate_mean_keys(p[0], p[1], n, grid);
    if (kernel == 9) emulate_most_alike(p[0], p[1], n, grid);
    if (kernel == 10) emulate_choose_merged(p, n, grid);
    if (kernel == 14) emulate_fused_attention(p, n, number, 64, grid);
    if (kernel == 15) emulate_fused_attention(p, n, number, 128, grid);
    for (int thread = 0; thread < blocks * threads; thread++) {
        if (kernel == 0) gather_patches(thread, n[0], p[0], p[1], n[1], n[2], n[3], n[4], n[5], n[6]);
        if (kernel == 1) add_tokens(thread, n[0], p[0], p[1], p[2], n[1], n[2], n[3]);
        if (kernel == 2) bias_function(thread, n[0], p[0], p[1], n[1], n[2], n[3], n[4]);
        if (kernel == 3) bias_function_wide(thread, n[0], p[0], p[1], n[1], n[2], n[3], n[4]);
        if (kernel == 4) gate(thread, n[0], p[0], p[1], n[1], n[2], n[3]);
        if (kernel == 7) mean_tokens(thread, n[0], p[0], p[1], p[2], n[1], n[2], n[3], n[4], n[5]);
        if (kernel == 11)
            merge_tokens(thread, n[0], p[0], p[1], p[2], p[3], p[4], p[5], n[1], n[2], n[3], n[4], n[5]);
        if (kernel == 13) rotary(thread, n[0], p[0], p[1], p[2], n[1], n[2], n[3], n[4]);
        if (kernel == 12) copy_back(thread, n[0], p[0], p[1], p[2], n[1], n[2], n[3]);
    }
    return stores;
}
