/* One thread for each value of the stream before the merging. */
extern "C" __global__ void __launch_bounds__(256)
    merge_tokens_kernel(const float *stream, const float *joined, const float *places, const float *next,
                        const float *sizes, float *out, int count, int tokens, int left, int width, int dense,
                        int first) {
    merge_tokens(blockIdx.x * blockDim.x + threadIdx.x, count, stream, joined, places, next, sizes, out, tokens, left,
                 width, dense, first);
}
