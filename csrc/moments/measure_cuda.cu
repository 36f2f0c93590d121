// SPDX-License-Identifier: Apache-2.0
#include "moments/measure_cuda.h"
#include "portable/cuda_launch.h"
#include "portable/thread_block.h"

namespace torch_init {
namespace {

// Resident blocks to make room for. Unasked, ptxas makes room for four, and spills.
constexpr int kResidentBlocks = 2;

__global__ void __launch_bounds__(kMeasureThreads, kResidentBlocks)
    measure_chunks_kernel(MeasureList list, Moments* of_chunk) {
  __shared__ MeasureShared shared;
  measure_chunks(DeviceBlock{}, list, &shared, of_chunk);
}

__global__ void __launch_bounds__(kMeasureThreads, kResidentBlocks)
    add_up_chunks_kernel(MeasureList list, const Moments* of_chunk, Moments* of_task) {
  __shared__ Moments of_thread[kMeasureThreads];
  add_up_chunks(DeviceBlock{}, list, of_chunk, of_thread, of_task);
}

}  // namespace

const char* cuda_measure(const void* blob, size_t count, int64_t chunks, Moments* of_chunk,
                         Moments* of_task, int device, void* stream) {
  const MeasureList list = measure_list_in_blob(blob, count);
  const cudaStream_t on_stream = static_cast<cudaStream_t>(stream);
  unsigned blocks = 0;
  cudaError_t status = grid_size(device, chunks, &blocks);
  if (status != cudaSuccess) return error_text(status);
  measure_chunks_kernel<<<blocks, kMeasureThreads, 0, on_stream>>>(list, of_chunk);
  status = cudaGetLastError();
  if (status != cudaSuccess) return error_text(status);
  status = grid_size(device, list.count, &blocks);
  if (status != cudaSuccess) return error_text(status);
  add_up_chunks_kernel<<<blocks, kMeasureThreads, 0, on_stream>>>(list, of_chunk, of_task);
  return error_text(cudaGetLastError());
}

}  // namespace torch_init
