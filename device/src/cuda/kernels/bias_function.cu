/* One thread for eight values. */
extern "C" __global__ void __launch_bounds__(VALUE_THREADS, MOST_THREADS / VALUE_THREADS)
    bias_function_kernel(half_bits *values, const float *bias, int count, int columns, int parts, int stride,
                         int function) {
    bias_function(blockIdx.x * blockDim.x + threadIdx.x, count, values, bias, columns, parts, stride, function);
}
