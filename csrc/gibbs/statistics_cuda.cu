// SPDX-License-Identifier: Apache-2.0
#include "gibbs/training_cuda.h"
#include "portable/cuda_launch.h"

namespace torch_init {
namespace {

// One block a multiprocessor will do: told so, ptxas does not spill.
template <typename Hidden>
__global__ void __launch_bounds__(kStatisticsThreads, 1)
    statistics_kernel(const __grid_constant__ ProductTasks tasks) {
  __shared__ StatisticsShared<sizeof(Hidden)> shared;
  __shared__ UnitSumsShared of_units;
  statistics_block<Hidden>(DeviceBlock{}, tasks, &shared, &of_units);
}

}  // namespace

const char* cuda_statistics(const ProductTasks& tasks, int device, void* stream) {
  const cudaError_t status = cudaSetDevice(device);
  if (status != cudaSuccess) return error_text(status);
  const auto blocks = static_cast<unsigned>(statistics_blocks(tasks));
  if (blocks == 0) return nullptr;
  const bool means = tasks.term[0].means != 0;
  const auto kernel = means ? statistics_kernel<int16_t> : statistics_kernel<uint8_t>;
  kernel<<<blocks, kStatisticsThreads, 0, static_cast<cudaStream_t>(stream)>>>(tasks);
  return error_text(cudaGetLastError());
}

}  // namespace torch_init
