/* One warp for each patch token: its key, averaged over heads. */
extern "C" __global__ void __launch_bounds__(128, MOST_THREADS / 128)
    mean_keys_kernel(const half_bits *keys, float *mean_keys, int count, int tokens, int prefix, int heads, int head_dim,
                     int dims) {
    int row = blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES, lane = threadIdx.x % LANES;
    /* All lanes of a warp have the same row, and leave together. */
    if (row >= count) return;
    float squares = sum_of_warp(squared_key(row, lane, keys, tokens, prefix, heads, head_dim, dims));
    write_key(row, lane, keys, mean_keys, tokens, prefix, heads, head_dim, dims, squares);
}
