/* One thread for each value of the stream. */
extern "C" __global__ void __launch_bounds__(256) add_tokens_kernel(const float *start, const float *embedded, float *stream,
                                                               int count, int tokens, int prefix, int width) {
    add_tokens(blockIdx.x * blockDim.x + threadIdx.x, count, start, embedded, stream, tokens, prefix, width);
}
