// SPDX-License-Identifier: Apache-2.0
#include "gibbs/training_cuda.h"
#include "portable/cuda_launch.h"

namespace torch_init {
namespace {

template <typename Real>
__global__ void __launch_bounds__(kGibbsThreads)
    measure_layer_kernel(const __grid_constant__ QuantizeTask<Real> task) {
  __shared__ MeasureShared shared;
  measure_layer(DeviceBlock{}, task, &shared);
}

template <typename Real>
__global__ void __launch_bounds__(kGibbsThreads)
    quantize_kernel(const __grid_constant__ QuantizeTask<Real> task) {
  __shared__ QuantizeShared shared;
  quantize_tile(DeviceBlock{}, task, &shared);
}

}  // namespace

template <typename Real>
const char* cuda_quantize(const QuantizeTask<Real>& task, int device, void* stream_pointer) {
  const auto stream = static_cast<cudaStream_t>(stream_pointer);
  const cudaError_t status = cudaSetDevice(device);
  if (status != cudaSuccess) return error_text(status);
  const auto blocks = static_cast<unsigned>(quantize_blocks(task));
  measure_layer_kernel<<<blocks, kGibbsThreads, 0, stream>>>(task);
  quantize_kernel<<<blocks, kGibbsThreads, 0, stream>>>(task);
  return error_text(cudaGetLastError());
}

template const char* cuda_quantize(const QuantizeTask<float>&, int, void*);
template const char* cuda_quantize(const QuantizeTask<double>&, int, void*);

}  // namespace torch_init
