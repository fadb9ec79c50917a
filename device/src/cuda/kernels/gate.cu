/* One thread for eight hidden neurons. */
extern "C" __global__ void __launch_bounds__(VALUE_THREADS, MOST_THREADS / VALUE_THREADS)
    gate_kernel(half_bits *values, const float *bias, int count, int columns, int stride, int function) {
    gate(blockIdx.x * blockDim.x + threadIdx.x, count, values, bias, columns, stride, function);
}
