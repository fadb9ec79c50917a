/* One block for each token: the end of a branch, and the norm that the next one begins with. */
extern "C" __global__ void __launch_bounds__(NORM_THREADS)
    residual_norm_kernel(float *stream, const float *branch, const float *branch_bias, const float *scale,
                         const float *weight, const float *bias, half_bits *narrow_out, float *wide_out, int count,
                         int width, int has_branch, int has_norm, int wide, float epsilon) {
    int row = blockIdx.x, thread = threadIdx.x;
    /* All threads of a block have the same row, and leave together. */
    if (row >= count) return;
    float mean = sum_of_norm(add_branch(row, thread, stream, branch, branch_bias, scale, width, has_branch)) / width;
    if (!has_norm) return;
    float variance = sum_of_norm(deviations(row, thread, stream, width, mean)) / width;
    float factor = rsqrtf(variance + epsilon);
    write_normed(row, thread, stream, weight, bias, narrow_out, wide_out, width, wide, mean, factor);
}
