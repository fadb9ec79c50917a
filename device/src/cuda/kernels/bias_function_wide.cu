/* One thread for each value. */
extern "C" __global__ void __launch_bounds__(256) bias_function_wide_kernel(float *values, const float *bias, int count, int columns,
                                                                       int parts, int stride, int function) {
    bias_function_wide(blockIdx.x * blockDim.x + threadIdx.x, count, values, bias, columns, parts, stride, function);
}
