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

__global__ void __launch_bounds__(kGibbsThreads)
    differences_kernel(const __grid_constant__ DifferencesTask task) {
  make_differences(DeviceBlock{}, task);
}

template <typename Pair>
__global__ void __launch_bounds__(kGibbsThreads)
    ascend_kernel(const __grid_constant__ ParametersTask task) {
  __shared__ AscendShared shared;
  ascend_block<Pair>(DeviceBlock{}, task, &shared);
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

const char* cuda_differences(const DifferencesTask& task, int device, void* stream) {
  unsigned blocks = 0;
  const int64_t units = task.units[kVisible] + task.units[kHidden];
  const int64_t wanted = (units + kGibbsThreads - 1) / kGibbsThreads;
  const cudaError_t status = grid_size(device, wanted, &blocks);
  if (status != cudaSuccess) return error_text(status);
  differences_kernel<<<blocks, kGibbsThreads, 0, static_cast<cudaStream_t>(stream)>>>(task);
  return error_text(cudaGetLastError());
}

const char* cuda_ascend(const ParametersTask& task, int device, void* stream_pointer) {
  const cudaError_t status = cudaSetDevice(device);
  if (status != cudaSuccess) return error_text(status);
  const auto blocks = static_cast<unsigned>(ascend_blocks(task.weights));
  if (blocks == 0) return nullptr;
  const auto stream = static_cast<cudaStream_t>(stream_pointer);
  switch (task.weights.pair_kind) {
    case PairKind::kInt32:
      ascend_kernel<int32_t><<<blocks, kGibbsThreads, 0, stream>>>(task);
      break;
    case PairKind::kInt64:
      ascend_kernel<int64_t><<<blocks, kGibbsThreads, 0, stream>>>(task);
      break;
    default:
      ascend_kernel<float><<<blocks, kGibbsThreads, 0, stream>>>(task);
  }
  return error_text(cudaGetLastError());
}

}  // namespace torch_init
