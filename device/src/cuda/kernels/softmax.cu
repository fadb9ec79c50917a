/* One warp for each row of scores, in place. */
extern "C" __global__ void __launch_bounds__(128) softmax_kernel(half_bits *scores, const float *log_sizes, int count,
                                                                int columns, int leading, int rows_of_image, int dense,
                                                                int weighted) {
    int row = blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES, lane = threadIdx.x % LANES;
    /* All lanes of a warp have the same row, and leave together. */
    if (row >= count) return;
    float largest = largest_of_warp(
        largest_score(row, lane, scores, log_sizes, columns, leading, rows_of_image, dense, weighted));
    float sum = sum_of_warp(
        sum_exponentials(row, lane, scores, log_sizes, columns, leading, rows_of_image, dense, weighted, largest));
    write_shares(row, lane, scores, log_sizes, columns, leading, rows_of_image, dense, weighted, largest, sum);
}
