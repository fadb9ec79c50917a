/* One block for each image: which tokens are merged, and where all of them go. */
extern "C" __global__ void __launch_bounds__(512, MOST_THREADS / 512)
    choose_merged_kernel(const float *matches, float *joined, float *places, float *next, float *groups,
                         const float *sizes, float *new_sizes, float *log_sizes, int count, int tokens, int prefix,
                         int merged, int dense, int first) {
    int image = blockIdx.x;
    for (int token = threadIdx.x; token < tokens; token += blockDim.x)
        choose_joined(image, token, matches, joined, tokens, prefix, merged);
    __syncthreads();
    for (int token = threadIdx.x; token < tokens; token += blockDim.x)
        place_token(image, token, joined, places, next, tokens);
    __syncthreads();
    for (int token = threadIdx.x; token < tokens; token += blockDim.x)
        write_size(image, token, joined, places, next, sizes, new_sizes, log_sizes, tokens, dense, first);
    for (int source = threadIdx.x; source < dense; source += blockDim.x)
        move_group(image, source, places, groups, tokens, dense, first);
}
