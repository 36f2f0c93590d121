// SPDX-License-Identifier: Apache-2.0
//
// A CUDA block of threads as an object that runs a function for each of its threads and meets at
// barriers. The device's does so in hardware, the host's with a loop, so that the code that runs on
// a GPU is the code the host tests run.
#pragma once

#include <stdint.h>

namespace torch_init {

// A barrier needs nothing: every thread has finished what came before it.
struct HostBlock {
  int64_t block_index;
  int64_t block_count;
  int threads;

  int64_t index() const { return block_index; }
  int64_t count() const { return block_count; }
  void barrier() const {}
  template <typename Function>
  void for_each_thread(const Function& function) const {
    for (int thread = 0; thread < threads; ++thread) function(thread);
  }
};

#if defined(__CUDACC__)
struct DeviceBlock {
  __device__ __forceinline__ int64_t index() const { return blockIdx.x; }
  __device__ __forceinline__ int64_t count() const { return gridDim.x; }
  __device__ __forceinline__ void barrier() const { __syncthreads(); }
  template <typename Function>
  __device__ __forceinline__ void for_each_thread(const Function& function) const {
    function(static_cast<int>(threadIdx.x));
  }
};
#endif

}  // namespace torch_init
