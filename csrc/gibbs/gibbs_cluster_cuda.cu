// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "gibbs/gibbs_cluster_cuda.h"

namespace torch_init {
namespace {

// Clusters of 16 blocks are more than every GPU with clusters promises; the runtime is asked.
constexpr int kMostSizeBits = 4;

struct ClusterArgument {
  ClusterTask task;
  float rows[kTableSize];
};

template <int kChains>
__global__ void __launch_bounds__(kGibbsThreads, 1)
    cluster_kernel(const __grid_constant__ ClusterArgument argument) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(16) uint8_t memory[];
  DeviceCluster cluster = {memory};
  run_cluster<kChains>(cluster, argument.task, argument.rows);
#else
  __trap();  // can_have_clusters() keeps it from being launched
#endif
}

template <int kChains>
class ClusterLauncher {
 public:
  ClusterLauncher(const ClusterTask& task, cudaStream_t stream) : task_(task) {
    const unsigned size = 1u << task.size_bits;
    attribute_.id = cudaLaunchAttributeClusterDimension;
    attribute_.val.clusterDim = {size, 1, 1};
    config_.gridDim = static_cast<unsigned>(cluster_count<kChains>(task.task)) * size;
    config_.blockDim = kGibbsThreads;
    config_.dynamicSmemBytes = static_cast<size_t>(shared_memory_of<kChains>(task, nullptr).size);
    config_.stream = stream;
    config_.attrs = &attribute_;
    config_.numAttrs = 1;
  }
  ClusterLauncher(const ClusterLauncher&) = delete;
  ClusterLauncher& operator=(const ClusterLauncher&) = delete;

  // Whether a block may have so much memory, and as many clusters as there are run at once.
  cudaError_t fits(int most_memory, bool* answer) const {
    *answer = false;
    if (config_.dynamicSmemBytes > static_cast<size_t>(most_memory)) return cudaSuccess;
    const auto kernel = cluster_kernel<kChains>;
    cudaError_t status =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    if (status == cudaSuccess) {
      status =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most_memory);
    }
    if (status != cudaSuccess) return status;
    int resident = 0;
    if (cudaOccupancyMaxActiveClusters(&resident, kernel, &config_) != cudaSuccess) {
      cudaGetLastError();  // forgets it: the device has no clusters of this size
      return cudaSuccess;
    }
    *answer = resident >= cluster_count<kChains>(task_.task);
    return cudaSuccess;
  }

  cudaError_t run() const {
    ClusterArgument argument;
    argument.task = task_;
    const QuantileRows<float>& table = task_.task.threshold.table_f32;
    std::copy_n(table.rows, table_size(table), argument.rows);
    return cudaLaunchKernelEx(&config_, cluster_kernel<kChains>, argument);
  }

 private:
  const ClusterTask task_;
  cudaLaunchAttribute attribute_{};
  cudaLaunchConfig_t config_{};
};

template <int kChains>
cudaError_t try_clusters(const ClusterTask& task, int most_memory, Clusters* found) {
  bool answer = false;
  const cudaError_t status = ClusterLauncher<kChains>(task, nullptr).fits(most_memory, &answer);
  if (answer) *found = {task, kChains};
  return status;
}

// Whether the device has clusters and the kernel's code uses them: GPUs newer than all machine code
// in the module compile its PTX, which may be that of a GPU without clusters.
cudaError_t can_have_clusters(int device, bool* answer) {
  *answer = false;
  int has_clusters = 0;
  cudaError_t status = cudaDeviceGetAttribute(&has_clusters, cudaDevAttrClusterLaunch, device);
  if (status != cudaSuccess || has_clusters == 0) return status;
  cudaFuncAttributes code{};
  status = cudaFuncGetAttributes(&code, cluster_kernel<8>);
  *answer = status == cudaSuccess && code.ptxVersion >= 90;
  return status;
}

cudaError_t search(const GibbsTask& task, int device, Clusters* found) {
  bool possible = false;
  int memory = 0;
  cudaError_t status = can_have_clusters(device, &possible);
  if (!possible) return status;
  status = cudaDeviceGetAttribute(&memory, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  for (int bits = 0; bits <= kMostSizeBits; ++bits) {
    for (const auto& attempt : {try_clusters<8>, try_clusters<16>, try_clusters<32>}) {
      if (status == cudaSuccess && found->chains == 0)
        status = attempt({task, bits}, memory, found);
    }
  }
  return status;
}

// The answer to the last question of a thread: asking the runtime takes longer than some sweeps.
struct Answer {
  int device = -1;
  int64_t visible = 0;
  int64_t hidden = 0;
  int64_t task_chains = 0;
  int32_t size_bits = 0;
  int chains = 0;
};
thread_local Answer last_answer;

}  // namespace

cudaError_t find_clusters(const GibbsTask& task, int device, Clusters* found) {
  *found = {{task, 0}, 0};
  const cudaError_t status = cudaSetDevice(device);
  if (status != cudaSuccess || task.grey != 0) return status;
  const int64_t visible = task.side[kVisible].units;
  const int64_t hidden = task.side[kHidden].units;
  if (last_answer.device != device || last_answer.visible != visible ||
      last_answer.hidden != hidden || last_answer.task_chains != task.chains) {
    const cudaError_t searched = search(task, device, found);
    if (searched != cudaSuccess) return searched;
    last_answer = {device, visible, hidden, task.chains, found->task.size_bits, found->chains};
  }
  *found = {{task, last_answer.size_bits}, last_answer.chains};
  return cudaSuccess;
}

cudaError_t run_clusters(const Clusters& clusters, void* stream_pointer) {
  const auto stream = static_cast<cudaStream_t>(stream_pointer);
  switch (clusters.chains) {
    case 8:
      return ClusterLauncher<8>(clusters.task, stream).run();
    case 16:
      return ClusterLauncher<16>(clusters.task, stream).run();
    default:
      return ClusterLauncher<32>(clusters.task, stream).run();
  }
}

}  // namespace torch_init
