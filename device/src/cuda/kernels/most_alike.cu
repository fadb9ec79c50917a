/* One warp for each even patch token: the odd one that is most like it. */
static __device__ __forceinline__ struct match best_of_warp(struct match best) {
    for (int distance = LANES / 2; distance > 0; distance /= 2) {
        struct match other = {__shfl_xor_sync(~0u, best.odd, distance), __shfl_xor_sync(~0u, best.likeness, distance)};
        best = better_match(best, other);
    }
    return best;
}

extern "C" __global__ void __launch_bounds__(128, MOST_THREADS / 128)
    most_alike_kernel(const float *mean_keys, float *matches, int count, int patches, int dims) {
    int row = blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES, lane = threadIdx.x % LANES;
    /* All lanes of a warp have the same row, and leave together. */
    if (row >= count) return;
    struct match best = best_of_warp(match_of_lane(row, lane, mean_keys, patches, dims));
    if (lane == 0) write_match(row, best, matches);
}
