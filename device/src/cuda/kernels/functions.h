/* What one thread (or one lane of a row) of each kernel does, in plain C.
 *
 * NVRTC compiles this file in front of each kernel, and the tests compile the same text with the C
 * compiler of the machine, so that what indexes memory on a GPU is what was tested without one. The
 * host's build has f32 where the GPU has f16, rounded to it or not.
 */
#define LANES 32
/* Threads that share the row of a norm, and columns that each has in hand at the same time: all of them are on their way
 * from memory before the first is used. */
#define NORM_THREADS 128
#define HELD_COLUMNS 4
/* Threads of a block of `bias_function`, and values that each has in hand. */
#define VALUE_THREADS 256
#define HELD_VALUES 8

#ifdef __CUDACC_RTC__
/* Threads that every multiprocessor has room for: Turing's for fewer (CUDA C++ Programming Guide, "Technical Specifications per
 * Compute Capability"). What a kernel's launch bounds ask for beyond that counts for nothing. */
#if __CUDA_ARCH__ == 750
#define MOST_THREADS 1024
#else
#define MOST_THREADS 1536
#endif
#define UNROLL _Pragma("unroll")
typedef unsigned short half_bits;
#define FUNCTION static __device__ __forceinline__
/* No header of the toolkit is needed: the conversions are one instruction each. */
FUNCTION float load_half(const half_bits *from) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(*from));
    return value;
}
FUNCTION void store_half(half_bits *to, float value) {
    half_bits bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    *to = bits;
}
FUNCTION void store(float *to, float value) { *to = value; }
FUNCTION float sum_of_warp(float value) {
    for (int distance = LANES / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(~0u, value, distance);
    return value;
}
/* Over the threads that share the row of a norm, which are a block. */
FUNCTION float sum_of_norm(float value) {
    __shared__ float sums[NORM_THREADS / LANES];
    value = sum_of_warp(value);
    /* All have read the sums before. */
    __syncthreads();
    if (threadIdx.x % LANES == 0) sums[threadIdx.x / LANES] = value;
    __syncthreads();
    value = 0.0f;
    UNROLL for (int warp = 0; warp < NORM_THREADS / LANES; warp++) value += sums[warp];
    return value;
}
FUNCTION float largest_of_warp(float value) {
    for (int distance = LANES / 2; distance > 0; distance /= 2)
        value = fmaxf(value, __shfl_xor_sync(~0u, value, distance));
    return value;
}
#endif

/* Pixels [images, channels, height, width] to patches [images * rows * columns, channels * patch * patch]. */
FUNCTION void gather_patches(int thread, int count, const float *pixels, half_bits *patches, int channels, int height,
                             int width, int patch, int rows, int columns) {
    if (thread >= count) return;
    int values = channels * patch * patch;
    int value = thread % values, token = thread / values;
    int x = value % patch, y = value / patch % patch, channel = value / (patch * patch);
    int column = token % columns, row = token / columns % rows, image = token / (rows * columns);
    int line = (image * channels + channel) * height + row * patch + y;
    store_half(patches + thread, pixels[line * width + column * patch + x]);
}

/* stream [images, tokens, width] = what each token starts with, and the embedded patch where it is one. */
FUNCTION void add_tokens(int thread, int count, const float *start, const float *embedded, float *stream, int tokens,
                         int prefix, int width) {
    if (thread >= count) return;
    int column = thread % width, token = thread / width % tokens, image = thread / (width * tokens);
    float value = start[token * width + column];
    if (token >= prefix) value += embedded[(image * (tokens - prefix) + token - prefix) * width + column];
    store(stream + thread, value);
}

/* The order is that of `Function` in kernel.rs. */
FUNCTION float apply(int function, float x) {
    if (function == 0) return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    if (function == 1) return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    if (function == 2) return x / (1.0f + expf(-1.702f * x));
    if (function == 3) return x / (1.0f + expf(-x));
    if (function == 4) return tanhf(x);
    return x;
}

/* A thread's first value. The others are a block's threads apart, so that neighbours in a warp have neighbours in memory, and
 * that the column is found by divisions once for all of them. */
FUNCTION int first_value(int thread) {
    return thread / VALUE_THREADS * (VALUE_THREADS * HELD_VALUES) + thread % VALUE_THREADS;
}

/* The column of the value that is `step` further on, less than a row. */
FUNCTION int next_column(int column, int columns, int step) {
    column += step;
    return column < columns ? column : column - columns;
}

/* Where the bias of a column is: rows are parts of `columns`, whose biases start `stride` apart. */
FUNCTION int bias_index(int column, int columns, int stride) {
    int start = 0;
    for (; column >= columns; column -= columns) start += stride;
    return start + column;
}

/* values = function(values + bias), in place. */
FUNCTION void bias_function(int thread, int count, half_bits *values, const float *bias, int columns, int parts,
                            int stride, int function) {
    int row = columns * parts, first = first_value(thread), column = first % row, step = VALUE_THREADS % row;
    float found[HELD_VALUES];
    UNROLL for (int held = 0; held < HELD_VALUES; held++) {
        int place = first + held * VALUE_THREADS;
        found[held] = place < count ? load_half(values + place) + bias[bias_index(column, columns, stride)] : 0.0f;
        column = next_column(column, row, step);
    }
    UNROLL for (int held = 0; held < HELD_VALUES; held++) {
        int place = first + held * VALUE_THREADS;
        if (place < count) store_half(values + place, apply(function, found[held]));
    }
}

/* The same for values in f32, of which there are few: one for each thread. */
FUNCTION void bias_function_wide(int thread, int count, float *values, const float *bias, int columns, int parts,
                                 int stride, int function) {
    if (thread >= count) return;
    float value = values[thread] + bias[bias_index(thread % (columns * parts), columns, stride)];
    store(values + thread, apply(function, value));
}

/* Rows of [gate, up], each of `columns`: gate = function(gate + bias) * (up + bias), in place. */
FUNCTION void gate(int thread, int count, half_bits *values, const float *bias, int columns, int stride, int function) {
    if (thread >= count) return;
    int column = thread % columns, place = thread / columns * 2 * columns + column;
    float opened = apply(function, load_half(values + place) + bias[column]);
    store_half(values + place, opened * (load_half(values + place + columns) + bias[stride + column]));
}

/* Turns a pair of dimensions of a query or key by its patch: x cos + [-x2, x1] sin over the two halves of a head, in
 * place. Rows are the heads' queries, then their keys, then their values; prefix tokens are not turned. */
FUNCTION void rotary(int thread, int count, half_bits *attention, const float *cosines, const float *sines, int tokens,
                     int prefix, int heads, int head_dim) {
    if (thread >= count) return;
    int half = head_dim / 2, patches = tokens - prefix;
    int dim = thread % half, head = thread / half % (2 * heads), row = thread / (half * 2 * heads);
    int patch = row % patches, token = row / patches * tokens + prefix + patch;
    half_bits *low = attention + (token * 3 * heads + head) * head_dim + dim, *high = low + half;
    float x1 = load_half(low), x2 = load_half(high);
    float cosine = cosines[patch * half + dim], sine = sines[patch * half + dim];
    store_half(low, x1 * cosine - x2 * sine);
    store_half(high, x2 * cosine + x1 * sine);
}

/* A thread's part of stream += scale * (branch + bias) in one row; returns the sum of what it wrote. */
FUNCTION float add_branch(int row, int thread, float *stream, const float *branch, const float *bias, const float *scale,
                          int width, int has_branch) {
    float sum = 0.0f;
    for (int first = thread; first < width; first += HELD_COLUMNS * NORM_THREADS) {
        float values[HELD_COLUMNS];
        UNROLL for (int held = 0; held < HELD_COLUMNS; held++) {
            int column = first + held * NORM_THREADS, place = row * width + column;
            values[held] = 0.0f;
            if (column < width) {
                values[held] = stream[place];
                if (has_branch) values[held] += scale[column] * (branch[place] + bias[column]);
            }
        }
        UNROLL for (int held = 0; held < HELD_COLUMNS; held++) {
            int column = first + held * NORM_THREADS;
            if (has_branch && column < width) store(stream + row * width + column, values[held]);
            sum += values[held];
        }
    }
    return sum;
}

/* A thread's part of the sum of squared deviations from the mean. It reads what the same thread wrote. */
FUNCTION float deviations(int row, int thread, const float *stream, int width, float mean) {
    float sum = 0.0f;
    for (int column = thread; column < width; column += NORM_THREADS) {
        float deviation = stream[row * width + column] - mean;
        sum += deviation * deviation;
    }
    return sum;
}

/* A thread's part of the normalised row, to f16 (`wide` 0) or f32. */
FUNCTION void write_normed(int row, int thread, const float *stream, const float *weight, const float *bias,
                           half_bits *narrow_out, float *wide_out, int width, int wide, float mean, float factor) {
    for (int first = thread; first < width; first += HELD_COLUMNS * NORM_THREADS) {
        float values[HELD_COLUMNS];
        UNROLL for (int held = 0; held < HELD_COLUMNS; held++) {
            int column = first + held * NORM_THREADS;
            values[held] = 0.0f;
            if (column < width)
                values[held] = (stream[row * width + column] - mean) * factor * weight[column] + bias[column];
        }
        UNROLL for (int held = 0; held < HELD_COLUMNS; held++) {
            int column = first + held * NORM_THREADS, place = row * width + column;
            if (column < width) {
                if (wide) store(wide_out + place, values[held]);
                else store_half(narrow_out + place, values[held]);
            }
        }
    }
}

/* A score of a row, with the logarithm of how many tokens its column stands for. `rows_of_image` rows are an image's, and
 * its logarithms `dense` apart from those of the next. */
FUNCTION float score(int row, int column, const half_bits *scores, const float *log_sizes, int leading,
                     int rows_of_image, int dense, int weighted) {
    float value = load_half(scores + row * leading + column);
    return weighted ? value + log_sizes[row / rows_of_image * dense + column] : value;
}

/* A lane's largest score of a row. */
FUNCTION float largest_score(int row, int lane, const half_bits *scores, const float *log_sizes, int columns,
                             int leading, int rows_of_image, int dense, int weighted) {
    float largest = -3.0e38f;
    for (int column = lane; column < columns; column += LANES)
        largest = fmaxf(largest, score(row, column, scores, log_sizes, leading, rows_of_image, dense, weighted));
    return largest;
}

FUNCTION float sum_exponentials(int row, int lane, const half_bits *scores, const float *log_sizes, int columns,
                                int leading, int rows_of_image, int dense, int weighted, float largest) {
    float sum = 0.0f;
    for (int column = lane; column < columns; column += LANES)
        sum += expf(score(row, column, scores, log_sizes, leading, rows_of_image, dense, weighted) - largest);
    return sum;
}

FUNCTION void write_shares(int row, int lane, half_bits *scores, const float *log_sizes, int columns, int leading,
                           int rows_of_image, int dense, int weighted, float largest, float sum) {
    for (int column = lane; column < columns; column += LANES) {
        float value = score(row, column, scores, log_sizes, leading, rows_of_image, dense, weighted);
        store_half(scores + row * leading + column, expf(value - largest) / sum);
    }
}

/* The mean of `taken` tokens of each image from `first` on, to f32 [images, width] and to f16 rows `leading` apart. */
FUNCTION void mean_tokens(int thread, int count, const float *tokens_in, float *wide_out, half_bits *narrow_out,
                          int tokens, int first, int taken, int width, int leading) {
    if (thread >= count) return;
    int column = thread % width, image = thread / width;
    float sum = 0.0f;
    for (int token = first; token < first + taken; token++) sum += tokens_in[(image * tokens + token) * width + column];
    store(wide_out + thread, sum / taken);
    store_half(narrow_out + image * leading + column, sum / taken);
}

/* Merging of tokens. Patch tokens at even places may join one at an odd place. */

/* A dimension of a patch token's key, summed over heads. Rows of `keys` are queries, keys and values. */
FUNCTION float summed_key(int row, int dim, const half_bits *keys, int tokens, int prefix, int heads, int head_dim) {
    int patches = tokens - prefix, token = row / patches * tokens + prefix + row % patches;
    float sum = 0.0f;
    for (int head = 0; head < heads; head++) sum += load_half(keys + (token * 3 * heads + head) * head_dim + dim);
    return sum;
}

/* A lane's part of the squared length of a key. */
FUNCTION float squared_key(int row, int lane, const half_bits *keys, int tokens, int prefix, int heads, int head_dim,
                           int dims) {
    float sum = 0.0f;
    for (int dim = lane; dim < dims; dim += LANES) {
        float value = summed_key(row, dim, keys, tokens, prefix, heads, head_dim);
        sum += value * value;
    }
    return sum;
}

/* A lane's part of a key of length 1 (or 0), to [images, dims, patches]. */
FUNCTION void write_key(int row, int lane, const half_bits *keys, float *mean_keys, int tokens, int prefix, int heads,
                        int head_dim, int dims, float squares) {
    int patches = tokens - prefix;
    float scale = squares > 0.0f ? 1.0f / sqrtf(squares) : 0.0f;
    for (int dim = lane; dim < dims; dim += LANES)
        store(mean_keys + (row / patches * dims + dim) * patches + row % patches,
              scale * summed_key(row, dim, keys, tokens, prefix, heads, head_dim));
}

/* An odd patch token, counted among them, and its likeness to an even one. */
struct match {
    int odd;
    float likeness;
};

/* Among equals the first. */
FUNCTION struct match better_match(struct match a, struct match b) {
    return b.likeness > a.likeness || (b.likeness == a.likeness && b.odd < a.odd) ? b : a;
}

/* Of a lane's odd tokens the one that is most like an even one. The first lane has one always. */
FUNCTION struct match match_of_lane(int row, int lane, const float *mean_keys, int patches, int dims) {
    int evens = (patches + 1) / 2, even = 2 * (row % evens);
    const float *keys = mean_keys + row / evens * dims * patches;
    struct match best = {lane, -3.0e38f};
    for (int odd = lane; odd < patches / 2; odd += LANES) {
        float likeness = 0.0f;
        for (int dim = 0; dim < dims; dim++) likeness += keys[dim * patches + even] * keys[dim * patches + 2 * odd + 1];
        struct match found = {odd, likeness};
        best = better_match(best, found);
    }
    return best;
}

FUNCTION void write_match(int row, struct match best, float *matches) {
    store(matches + 2 * row, best.odd);
    store(matches + 2 * row + 1, best.likeness);
}

/* The token that a token joins, its own number where it stays: an even one joins its match if fewer than `merged` others
 * are more like theirs. */
FUNCTION void choose_joined(int image, int token, const float *matches, float *joined, int tokens, int prefix,
                            int merged) {
    int patch = token - prefix, evens = (tokens - prefix + 1) / 2, joins = token;
    if (patch >= 0 && patch % 2 == 0) {
        const float *of_image = matches + image * 2 * evens;
        float likeness = of_image[patch + 1];
        int before = 0;
        for (int other = 0; other < evens; other++) {
            float of_other = of_image[2 * other + 1];
            before += of_other > likeness || (of_other == likeness && 2 * other < patch);
        }
        if (before < merged) joins = prefix + 2 * (int)of_image[patch] + 1;
    }
    store(joined + image * tokens + token, joins);
}

/* Where a token's group is after the merging, and the next token that joins it (`tokens` after the last). */
FUNCTION void place_token(int image, int token, const float *joined, float *places, float *next, int tokens) {
    const float *of_image = joined + image * tokens;
    int group = (int)of_image[token], place = group, following = token == group ? 0 : token + 1;
    for (int other = 0; other < group; other++) place -= (int)of_image[other] != other;
    while (following < tokens && (following == group || (int)of_image[following] != group)) following++;
    store(places + image * tokens + token, place);
    store(next + image * tokens + token, following);
}

/* How many tokens of the dense model a token stands for; before the first merging one. */
FUNCTION float group_size(int image, int token, const float *sizes, int dense, int first) {
    return first ? 1.0f : sizes[image * dense + token];
}

/* The size of the group of a token that stays. */
FUNCTION void write_size(int image, int token, const float *joined, const float *places, const float *next,
                         const float *sizes, float *new_sizes, float *log_sizes, int tokens, int dense, int first) {
    int start = image * tokens;
    if ((int)joined[start + token] != token) return;
    float size = group_size(image, token, sizes, dense, first);
    for (int other = (int)next[start + token]; other < tokens; other = (int)next[start + other])
        size += group_size(image, other, sizes, dense, first);
    int place = image * dense + (int)places[start + token];
    store(new_sizes + place, size);
    store(log_sizes + place, logf(size));
}

/* The token that stands for one of the dense model, after the merging. */
FUNCTION void move_group(int image, int source, const float *places, float *groups, int tokens, int dense, int first) {
    float *group = groups + image * dense + source;
    store(group, places[image * tokens + (first ? source : (int)*group)]);
}

/* stream [images, tokens, width] to out [images, left, width]: means of those that join, weighted by their sizes. */
FUNCTION void merge_tokens(int thread, int count, const float *stream, const float *joined, const float *places,
                           const float *next, const float *sizes, float *out, int tokens, int left, int width,
                           int dense, int first) {
    if (thread >= count) return;
    int column = thread % width, token = thread / width % tokens, image = thread / (width * tokens);
    int start = image * tokens;
    if ((int)joined[start + token] != token) return;
    float value = stream[thread], size = group_size(image, token, sizes, dense, first);
    for (int other = (int)next[start + token]; other < tokens; other = (int)next[start + other]) {
        float more = group_size(image, other, sizes, dense, first);
        size += more;
        value += (stream[(start + other) * width + column] - value) * (more / size);
    }
    store(out + (image * left + (int)places[start + token]) * width + column, value);
}

/* left [images, tokens, width] to out [images, dense, width]: to each token that which stands for it. */
FUNCTION void copy_back(int thread, int count, const float *left, const float *groups, float *out, int tokens,
                        int dense, int width) {
    if (thread >= count) return;
    int column = thread % width, token = thread / width % dense, image = thread / (width * dense);
    store(out + thread, left[(image * tokens + (int)groups[image * dense + token]) * width + column]);
}
