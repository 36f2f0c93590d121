// SPDX-License-Identifier: Apache-2.0
//
// A CUDA cluster of thread blocks as an object: blocks that run at the same time, meet at barriers
// and write to each other's dynamic shared memory. The host runs one block after the other.
#pragma once

#include <vector>

#include "portable/thread_block.h"

namespace torch_init {

// A barrier needs nothing: a function has run for every block before the next one runs for any.
class HostCluster {
 public:
  HostCluster(int64_t index, int size, int threads, int64_t memory_size)
      : index_(index), size_(size), threads_(threads), memory_size_(memory_size) {
    memory_.resize(static_cast<size_t>(size * memory_size / 16));
  }

  int64_t index() const { return index_; }
  void arrive() const {}
  void wait() const {}
  // What has in a block's shared memory the place that `own` has in another's.
  template <typename T>
  T* in_block(T* own, int own_rank, int rank) {
    return reinterpret_cast<T*>(reinterpret_cast<uint8_t*>(own) +
                                (memory(rank) - memory(own_rank)));
  }
  // Calls function(block, rank, its shared memory, aligned to 16 bytes).
  template <typename Function>
  void for_each_block(const Function& function) {
    for (int rank = 0; rank < size_; ++rank) {
      function(HostBlock{index_ * size_ + rank, 0, threads_}, rank, memory(rank));
    }
  }

 private:
  struct alignas(16) Vector {
    uint8_t bytes[16];
  };

  uint8_t* memory(int rank) { return memory_[static_cast<size_t>(rank * memory_size_ / 16)].bytes; }

  int64_t index_;
  int size_;
  int threads_;
  int64_t memory_size_;
  std::vector<Vector> memory_;
};

#if defined(__CUDACC__)
// Of compute capability 9.0 or more.
struct DeviceCluster {
  uint8_t* own_memory;

#if __CUDA_ARCH__ >= 900
  __device__ __forceinline__ int64_t index() const {
    int id;
    asm("mov.u32 %0, %%clusterid.x;" : "=r"(id));
    return id;
  }
  // Between the two a block may do what concerns no other.
  __device__ __forceinline__ void arrive() const {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  }
  __device__ __forceinline__ void wait() const {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
  }
  template <typename T>
  __device__ __forceinline__ T* in_block(T* own, int, int rank) const {
    return static_cast<T*>(__cluster_map_shared_rank(own, static_cast<unsigned>(rank)));
  }
  template <typename Function>
  __device__ __forceinline__ void for_each_block(const Function& function) const {
    int rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    function(DeviceBlock{}, rank, own_memory);
  }
#endif
};
#endif

}  // namespace torch_init
