/* What one thread (or one lane of a row) of each kernel does, in plain C.
 *
 * NVRTC compiles this file in front of each kernel, and the tests compile the same text with the C
 * compiler of the machine, so that what indexes memory on a GPU is what was tested without one. The
 * host's build stores f32 where the GPU stores f16.
 */
#ifdef __CUDACC_RTC__
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
#endif

#define LANES 32

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

/* Where the bias of a column is: rows are parts of `columns`, whose biases start `stride` apart. */
FUNCTION int bias_index(int thread, int columns, int parts, int stride) {
    int column = thread % (columns * parts);
    return column / columns * stride + column % columns;
}

/* values = function(values + bias), in place. */
FUNCTION void bias_function(int thread, int count, half_bits *values, const float *bias, int columns, int parts,
                            int stride, int function) {
    if (thread >= count) return;
    float value = load_half(values + thread) + bias[bias_index(thread, columns, parts, stride)];
    store_half(values + thread, apply(function, value));
}

/* The same for values in f32. */
FUNCTION void bias_function_wide(int thread, int count, float *values, const float *bias, int columns, int parts,
                                 int stride, int function) {
    if (thread >= count) return;
    float value = values[thread] + bias[bias_index(thread, columns, parts, stride)];
    store(values + thread, apply(function, value));
}

/* Rows of [gate, up], each of `columns`: gate = function(gate + bias) * (up + bias), in place. */
FUNCTION void gate(int thread, int count, half_bits *values, const float *bias, int columns, int stride, int function) {
    if (thread >= count) return;
    int column = thread % columns, place = thread / columns * 2 * columns + column;
    float opened = apply(function, load_half(values + place) + bias[column]);
    store_half(values + place, opened * (load_half(values + place + columns) + bias[stride + column]));
}

/* A lane's part of stream += scale * (branch + bias) in one row; returns the sum of what it wrote. */
FUNCTION float add_branch(int row, int lane, float *stream, const float *branch, const float *bias, const float *scale,
                          int width, int has_branch) {
    float sum = 0.0f;
    for (int column = lane; column < width; column += LANES) {
        int place = row * width + column;
        float value = stream[place];
        if (has_branch) {
            value += scale[column] * (branch[place] + bias[column]);
            store(stream + place, value);
        }
        sum += value;
    }
    return sum;
}

/* A lane's part of the sum of squared deviations from the mean. It reads what the same lane wrote. */
FUNCTION float deviations(int row, int lane, const float *stream, int width, float mean) {
    float sum = 0.0f;
    for (int column = lane; column < width; column += LANES) {
        float deviation = stream[row * width + column] - mean;
        sum += deviation * deviation;
    }
    return sum;
}

/* A lane's part of the normalised row, to f16 (`wide` 0) or f32. */
FUNCTION void write_normed(int row, int lane, const float *stream, const float *weight, const float *bias,
                           half_bits *narrow_out, float *wide_out, int width, int wide, float mean, float factor) {
    for (int column = lane; column < width; column += LANES) {
        int place = row * width + column;
        float value = (stream[place] - mean) * factor * weight[column] + bias[column];
        if (wide) store(wide_out + place, value);
        else store_half(narrow_out + place, value);
    }
}

/* A lane's largest score of a row. */
FUNCTION float largest_score(int row, int lane, const half_bits *scores, int columns, int leading) {
    float largest = -3.0e38f;
    for (int column = lane; column < columns; column += LANES)
        largest = fmaxf(largest, load_half(scores + row * leading + column));
    return largest;
}

FUNCTION float sum_exponentials(int row, int lane, const half_bits *scores, int columns, int leading, float largest) {
    float sum = 0.0f;
    for (int column = lane; column < columns; column += LANES)
        sum += expf(load_half(scores + row * leading + column) - largest);
    return sum;
}

FUNCTION void write_shares(int row, int lane, half_bits *scores, int columns, int leading, float largest, float sum) {
    for (int column = lane; column < columns; column += LANES) {
        half_bits *place = scores + row * leading + column;
        store_half(place, expf(load_half(place) - largest) / sum);
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
