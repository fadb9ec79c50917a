/* One thread for each value of a patch. */
extern "C" __global__ void __launch_bounds__(256) gather_patches_kernel(const float *pixels, half_bits *patches, int count, int channels,
                                                                   int height, int width, int patch, int rows, int columns) {
    gather_patches(blockIdx.x * blockDim.x + threadIdx.x, count, pixels, patches, channels, height, width, patch,
                   rows, columns);
}
