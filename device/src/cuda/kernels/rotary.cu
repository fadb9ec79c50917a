/* One thread for each pair of dimensions of a query or key of a patch token. */
extern "C" __global__ void __launch_bounds__(256)
    rotary_kernel(half_bits *attention, const float *cosines, const float *sines, int count, int tokens, int prefix,
                  int heads, int head_dim) {
    rotary(blockIdx.x * blockDim.x + threadIdx.x, count, attention, cosines, sines, tokens, prefix, heads, head_dim);
}
