/* One thread for each value of the dense model's tokens. */
extern "C" __global__ void __launch_bounds__(256) copy_back_kernel(const float *left, const float *groups, float *out, int count,
                                                              int tokens, int dense, int width) {
    copy_back(blockIdx.x * blockDim.x + threadIdx.x, count, left, groups, out, tokens, dense, width);
}
