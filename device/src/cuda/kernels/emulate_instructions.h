/* The instructions of a warp and of a block that `fused_attention.h` is made of, for all lanes at once.
 *
 * Written from the PTX ISA ("Matrix Fragments for mma.m16n8k16 with floating point type", "ldmatrix", "cp.async"), not from
 * what uses them. What is f16 on a GPU has the type f32.
 */
#define LANES_HELD LANES
#define WARPS_HELD 4
#define ROLLED

typedef struct {
    float low, high;
} half_pair;

FUNCTION int lane_of(int held) { return held; }
FUNCTION int warp_of(int held) { return held; }
FUNCTION half_pair pair_of(float low, float high) {
    half_pair pair = {low, high};
    return pair;
}
FUNCTION half_pair rounded_pair(float low, float high) { return pair_of(rounded(low), rounded(high)); }
FUNCTION void store_pair(float *to, float low, float high) {
    store_half(to, low);
    store_half(to + 1, high);
}
FUNCTION float power_of_two(float exponent) { return exp2f(exponent); }

/* Copies that were started, and are there after the next wait. Until then their place has neither old nor new values. */
static _Thread_local struct copy {
    float *to;
    const float *from;
    int valid;
} copies[4096];
static _Thread_local int copies_started;

FUNCTION void copy_eight(float *to, const float *from, int valid) {
    if (copies_started == sizeof copies / sizeof copies[0]) abort();
    copies[copies_started].to = to;
    copies[copies_started].from = from;
    copies[copies_started++].valid = valid;
    for (int value = 0; value < 8; value++) to[value] = NAN;
}

FUNCTION void wait_for_copies(void) {
    for (struct copy *copy = copies; copy < copies + copies_started; copy++)
        for (int value = 0; value < 8; value++) copy->to[value] = value < copy->valid ? copy->from[value] : 0.0f;
    copies_started = 0;
}

/* Lane 8 i + r names row r of matrix i; of each matrix a lane gets two neighbours of row lane / 4. */
FUNCTION void load_matrices(half_pair to[4][LANES_HELD], const float **from) {
    for (int matrix = 0; matrix < 4; matrix++)
        for (int lane = 0; lane < LANES; lane++) {
            const float *row = from[8 * matrix + lane / 4];
            to[matrix][lane] = pair_of(row[2 * (lane % 4)], row[2 * (lane % 4) + 1]);
        }
}

/* The same of the transposed matrices. */
FUNCTION void load_transposed(half_pair to[4][LANES_HELD], const float **from) {
    for (int matrix = 0; matrix < 4; matrix++)
        for (int lane = 0; lane < LANES; lane++) {
            const float **rows = from + 8 * matrix + 2 * (lane % 4);
            to[matrix][lane] = pair_of(rows[0][lane / 4], rows[1][lane / 4]);
        }
}

/* sum [16, 8] += a [16, 16] * b [16, 8]. */
FUNCTION void multiply(float sum[4][LANES_HELD], half_pair a[4][LANES_HELD], half_pair b[2][LANES_HELD]) {
    float left[16][16], right[16][8];
    for (int lane = 0; lane < LANES; lane++) {
        int group = lane >> 2, in_group = lane % 4;
        for (int i = 0; i < 8; i++) {
            int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
            int column = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
            left[row][column] = i & 1 ? a[i / 2][lane].high : a[i / 2][lane].low;
        }
        for (int i = 0; i < 4; i++) {
            int row = in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0);
            right[row][group] = i & 1 ? b[i / 2][lane].high : b[i / 2][lane].low;
        }
    }
    for (int lane = 0; lane < LANES; lane++)
        for (int i = 0; i < 4; i++) {
            int row = i < 2 ? lane >> 2 : (lane >> 2) + 8, column = lane % 4 * 2 + (i & 1);
            for (int k = 0; k < 16; k++) sum[i][lane] += left[row][k] * right[k][column];
        }
}

FUNCTION void largest_of_row(float *value) {
    for (int first = 0; first < LANES; first += 4) {
        float largest = fmaxf(fmaxf(value[first], value[first + 1]), fmaxf(value[first + 2], value[first + 3]));
        for (int lane = first; lane < first + 4; lane++) value[lane] = largest;
    }
}

FUNCTION void sum_of_row(float *value) {
    for (int first = 0; first < LANES; first += 4) {
        float sum = value[first] + value[first + 1] + value[first + 2] + value[first + 3];
        for (int lane = first; lane < first + 4; lane++) value[lane] = sum;
    }
}
