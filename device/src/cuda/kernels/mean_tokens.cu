/* One thread for each value of the means. */
extern "C" __global__ void __launch_bounds__(256) mean_tokens_kernel(const float *tokens_in, float *wide_out, half_bits *narrow_out,
                                                                int count, int tokens, int first, int taken, int width,
                                                                int leading) {
    mean_tokens(blockIdx.x * blockDim.x + threadIdx.x, count, tokens_in, wide_out, narrow_out, tokens, first, taken,
                width, leading);
}
