// SPDX-License-Identifier: Apache-2.0
#include "gibbs/gibbs_cuda.h"
#include "gibbs/statistics_kernel.h"
#include "portable/cuda_launch.h"

namespace torch_init {
namespace {

// One block a multiprocessor will do: told so, ptxas does not spill.
template <typename Hidden>
__global__ void __launch_bounds__(kStatisticsThreads, 1) statistics_kernel(const ProductTask task) {
  __shared__ StatisticsShared<sizeof(Hidden)> shared;
  statistics_tile<Hidden>(DeviceBlock{}, task, &shared);
}

}  // namespace

const char* cuda_statistics(const ProductTask& task, int device, void* stream) {
  const cudaError_t status = cudaSetDevice(device);
  if (status != cudaSuccess) return error_text(status);
  const auto tiles = static_cast<unsigned>(statistics_tiles(task));
  if (tiles == 0) return nullptr;
  const auto kernel = task.means != 0 ? statistics_kernel<int16_t> : statistics_kernel<uint8_t>;
  kernel<<<tiles, kStatisticsThreads, 0, static_cast<cudaStream_t>(stream)>>>(task);
  return error_text(cudaGetLastError());
}

}  // namespace torch_init
