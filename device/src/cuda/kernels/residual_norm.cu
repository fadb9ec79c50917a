/* One warp for each token: the end of a branch, and the norm that the next one begins with. */
extern "C" __global__ void __launch_bounds__(128)
    residual_norm_kernel(float *stream, const float *branch, const float *branch_bias, const float *scale,
                         const float *weight, const float *bias, half_bits *narrow_out, float *wide_out, int count,
                         int width, int has_branch, int has_norm, int wide, float epsilon) {
    int row = blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES, lane = threadIdx.x % LANES;
    /* All lanes of a warp have the same row, and leave together. */
    if (row >= count) return;
    float mean = sum_of_warp(add_branch(row, lane, stream, branch, branch_bias, scale, width, has_branch)) / width;
    if (!has_norm) return;
    float variance = sum_of_warp(deviations(row, lane, stream, width, mean)) / width;
    float factor = rsqrtf(variance + epsilon);
    write_normed(row, lane, stream, weight, bias, narrow_out, wide_out, width, wide, mean, factor);
}
