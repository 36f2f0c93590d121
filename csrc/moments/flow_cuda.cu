// SPDX-License-Identifier: Apache-2.0
#include "moments/flow_cuda.h"
#include "portable/cuda_launch.h"
#include "portable/thread_block.h"

namespace torch_init {
namespace {

// Resident blocks to make room for. Unasked, ptxas makes room for four, and spills.
constexpr int kResidentBlocks = 3;

__global__ void __launch_bounds__(kMeasureThreads, kResidentBlocks)
    read_flow_kernel(const __grid_constant__ FlowTask task, FlowScratch scratch) {
  __shared__ FlowShared shared;
  read_flow_units(DeviceBlock{}, task, scratch, &shared);
}

__global__ void __launch_bounds__(kMeasureThreads, kResidentBlocks)
    add_up_flow_kernel(const __grid_constant__ FlowTask task, FlowScratch scratch) {
  __shared__ FlowShared shared;
  add_up_flow(DeviceBlock{}, task, scratch, &shared);
}

}  // namespace

const char* cuda_accumulate(const FlowTask& task, void* scratch, int device, void* stream) {
  const cudaStream_t on_stream = static_cast<cudaStream_t>(stream);
  const FlowScratch places = flow_scratch_at(task, scratch);
  const FlowWork work = flow_work(task);
  unsigned blocks = 0;
  cudaError_t status = grid_size(device, work.chunks + work.segments * work.tiles, &blocks);
  if (status != cudaSuccess) return error_text(status);
  read_flow_kernel<<<blocks, kMeasureThreads, 0, on_stream>>>(task, places);
  status = cudaGetLastError();
  if (status != cudaSuccess) return error_text(status);
  const int64_t columns = work.tiles == 0 ? 0 : 3 * task.features.columns;
  status = grid_size(device, divided_up(columns, kMeasureThreads), &blocks);
  if (status != cudaSuccess) return error_text(status);
  add_up_flow_kernel<<<blocks, kMeasureThreads, 0, on_stream>>>(task, places);
  return error_text(cudaGetLastError());
}

}  // namespace torch_init
