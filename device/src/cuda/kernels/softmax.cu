/* One warp for each row of scores, in place. */
static __device__ __forceinline__ float sum_of_warp(float value) {
    for (int distance = LANES / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(~0u, value, distance);
    return value;
}

static __device__ __forceinline__ float largest_of_warp(float value) {
    for (int distance = LANES / 2; distance > 0; distance /= 2)
        value = fmaxf(value, __shfl_xor_sync(~0u, value, distance));
    return value;
}

extern "C" __global__ void __launch_bounds__(128) softmax_kernel(half_bits *scores, int count, int columns, int leading) {
    int row = blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES, lane = threadIdx.x % LANES;
    /* All lanes of a warp have the same row, and leave together. */
    if (row >= count) return;
    float largest = largest_of_warp(largest_score(row, lane, scores, columns, leading));
    float sum = sum_of_warp(sum_exponentials(row, lane, scores, columns, leading, largest));
    write_shares(row, lane, scores, columns, leading, largest, sum);
}
