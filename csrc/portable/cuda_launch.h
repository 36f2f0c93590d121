// SPDX-License-Identifier: Apache-2.0
//
// What every launcher of CUDA kernels does. For .cu files only.
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>

namespace torch_init {

// Enough resident blocks to hide latency, few enough that what a block prepares is prepared rarely.
constexpr int kBlocksPerMultiprocessor = 8;

// Makes the device current, and says how many blocks to launch on it for so much work.
inline cudaError_t grid_size(int device, int64_t most, unsigned* blocks) {
  int multiprocessors = 0;
  cudaError_t status = cudaSetDevice(device);
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  }
  const int64_t resident = int64_t{multiprocessors} * kBlocksPerMultiprocessor;
  const int64_t wanted = most < resident ? most : resident;
  *blocks = static_cast<unsigned>(wanted > 1 ? wanted : 1);
  return status;
}

// Null for success, else what CUDA says.
inline const char* error_text(cudaError_t status) {
  if (status == cudaSuccess) return nullptr;
  cudaGetLastError();  // forgets it, or the next launch would report it
  return cudaGetErrorString(status);
}

}  // namespace torch_init
