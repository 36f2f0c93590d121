// SPDX-License-Identifier: Apache-2.0
//
// A CUDA block of threads as an object that runs a function for each of its threads, or warps, and
// meets at barriers. The device's does so in hardware, the host's with a loop, so that the code
// that runs on a GPU is the code the host tests run.
#pragma once

#include <stdint.h>
#include <string.h>

#include "portable/warp.h"

namespace torch_init {

// A barrier needs nothing: every thread has finished what came before it. Nor do copies in the
// background: they are made at once.
struct HostBlock {
  static constexpr int kMostWarps = 8;

  // What each warp keeps from one function to the next.
  template <typename T>
  struct PerWarp {
    T& of(const HostWarp& warp) { return value[warp.index]; }
    T value[kMostWarps];
  };
  using Warp = HostWarp;

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
  template <typename Function>
  void for_each_warp(const Function& function) const {
    for (int warp = 0; warp < threads / kWarpLanes; ++warp) function(HostWarp{warp});
  }
  // What threads of all blocks may do to one number at the same time.
  void add(int32_t* sum, int32_t x) const { *sum += x; }
  void add(double* sum, double x) const { *sum += x; }
  void raise(uint64_t* most, uint64_t x) const { *most = *most > x ? *most : x; }
  int64_t count_up(int64_t* count) const { return (*count)++; }
  // What this thread wrote before is seen by others before what it writes after.
  void fence() const {}
  // 16 bytes, both ends aligned to 16, on their way until a wait.
  void copy_16(void* to, const void* from) const { memcpy(to, from, 16); }
  void end_of_copies() const {}
  template <int kPending>
  void wait_for_copies() const {}
  // What a grid has written may be read, and what it reads be overwritten, once a later one that
  // was launched early has waited for it.
  void let_next_grid_start() const {}
  void wait_for_previous_grid() const {}
};

#if defined(__CUDACC__)
struct DeviceBlock {
  template <typename T>
  struct PerWarp {
    __device__ __forceinline__ T& of(const DeviceWarp&) { return value; }
    T value;
  };
  using Warp = DeviceWarp;

  // The same in all lanes of a warp, and so that the compiler knows it.
  int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / kWarpLanes, 0);

  __device__ __forceinline__ int64_t index() const { return blockIdx.x; }
  __device__ __forceinline__ int64_t count() const { return gridDim.x; }
  __device__ __forceinline__ void barrier() const { __syncthreads(); }
  template <typename Function>
  __device__ __forceinline__ void for_each_thread(const Function& function) const {
    function(static_cast<int>(threadIdx.x));
  }
  template <typename Function>
  __device__ __forceinline__ void for_each_warp(const Function& function) const {
    function(DeviceWarp{warp});
  }
  __device__ __forceinline__ void add(int32_t* sum, int32_t x) const { atomicAdd(sum, x); }
  __device__ __forceinline__ void add(double* sum, double x) const { atomicAdd(sum, x); }
  __device__ __forceinline__ void raise(uint64_t* most, uint64_t x) const {
    atomicMax(reinterpret_cast<unsigned long long*>(most), static_cast<unsigned long long>(x));
  }
  __device__ __forceinline__ int64_t count_up(int64_t* count) const {
    return static_cast<int64_t>(atomicAdd(reinterpret_cast<unsigned long long*>(count), 1ull));
  }
  __device__ __forceinline__ void fence() const { __threadfence(); }
  __device__ __forceinline__ void copy_16(void* to, const void* from) const {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                     static_cast<uint32_t>(__cvta_generic_to_shared(to))),
                 "l"(__cvta_generic_to_global(from))
                 : "memory");
  }
  // Copies up to here form a group; waits until at most kPending groups of this thread are pending.
  __device__ __forceinline__ void end_of_copies() const {
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  template <int kPending>
  __device__ __forceinline__ void wait_for_copies() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
  }
  __device__ __forceinline__ void let_next_grid_start() const {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
  }
  __device__ __forceinline__ void wait_for_previous_grid() const {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
  }
};
#endif

}  // namespace torch_init
