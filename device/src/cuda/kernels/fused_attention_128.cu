/* One block for each tile of 64 queries of a head of an image, of which at most 128 dimensions are kept. */
#if __CUDA_ARCH__ < 800
#error "products of 16 dimensions of f16 are of sm_80 and newer"
#endif
extern "C" __global__ void __launch_bounds__(128, 3)
    fused_attention_128_kernel(const half_bits *queries, const half_bits *keys, const half_bits *values,
                               const float *log_sizes, half_bits *out, int count, int rows, int tokens, int heads,
                               int head_dim, int query_dims, int value_dims, int query_leading, int query_image,
                               int key_leading, int dense, int weighted, float scale) {
    __shared__ __align__(16) half_bits key_tile[KEYS_OF_TILE * (128 + ROW_PADDING)];
    __shared__ __align__(16) half_bits value_tile[KEYS_OF_TILE * (128 + ROW_PADDING)];
    struct attention of = {rows,          tokens,      heads,       head_dim, query_dims, value_dims,
                           query_leading, query_image, key_leading, dense,    weighted,   scale};
    attend(blockIdx.x, queries, keys, values, log_sizes, out, key_tile, value_tile, &of, 128);
}
