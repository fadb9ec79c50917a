/* One thread for each hidden neuron of each token. */
extern "C" __global__ void __launch_bounds__(256) gate_kernel(half_bits *values, const float *bias, int count, int columns,
                                                         int stride, int function) {
    gate(blockIdx.x * blockDim.x + threadIdx.x, count, values, bias, columns, stride, function);
}
