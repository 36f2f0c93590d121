// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "gibbs/gibbs_cluster_cuda.h"
#include "gibbs/gibbs_cuda.h"
#include "gibbs/split_kernel.h"
#include "gibbs/tile_kernel.h"
#include "portable/cuda_launch.h"

namespace torch_init {
namespace {

// What brings its table, a symmetric one, along.
struct StepArgument {
  TileStep step;
  float rows[kTableSize];
};

struct FloatArgument {
  FloatTask task;
  float rows[kTableSize];
};

__global__ void __launch_bounds__(kGibbsThreads) pack_kernel(const TileStep step, int side) {
  pack_states(DeviceBlock{}, step, side);
}

__global__ void __launch_bounds__(kGibbsThreads) pack_levels_kernel(const TileStep step) {
  pack_levels(DeviceBlock{}, step);
}

__global__ void __launch_bounds__(kGibbsThreads) unpack_kernel(const TileStep step, int side) {
  unpack_states(DeviceBlock{}, step, side);
}

// The most that registers allow: three where ptxas needs more of them.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int kResidentTiles = 3;
#else
constexpr int kResidentTiles = 4;
#endif

__global__ void __launch_bounds__(kTileThreads, kResidentTiles)
    half_step_kernel(const __grid_constant__ StepArgument argument) {
  __shared__ TileShared<false> shared;
  half_step_tiles(DeviceBlock{}, argument.step, argument.rows, &shared);
}

__global__ void __launch_bounds__(kTileThreads)
    grey_half_step_kernel(const __grid_constant__ StepArgument argument) {
  __shared__ TileShared<true> shared;
  half_step_tiles(DeviceBlock{}, argument.step, argument.rows, &shared);
}

__global__ void __launch_bounds__(kGibbsThreads)
    split_half_step_kernel(const __grid_constant__ StepArgument argument) {
  __shared__ SplitShared shared;
  half_step_split(DeviceBlock{}, argument.step, argument.rows, &shared);
}

__global__ void __launch_bounds__(kGibbsThreads)
    sample_float_kernel(const __grid_constant__ FloatArgument argument) {
  sample_float(DeviceBlock{}, argument.task, RowsInMemory{argument.rows});
}

// Calls start(blocks) for blocks that have something to do.
template <typename Start>
cudaError_t launch(int device, int64_t wanted, const Start& start) {
  if (wanted == 0) return cudaSuccess;
  unsigned blocks = 0;
  const cudaError_t status = grid_size(device, wanted, &blocks);
  if (status != cudaSuccess) return status;
  start(blocks);
  return cudaGetLastError();
}

int64_t blocks_for(int64_t items) { return (items + kGibbsThreads - 1) / kGibbsThreads; }

// Split half-steps make for more blocks, but read each weight more often.
cudaError_t most_split_blocks(int device, GibbsPath path, int64_t* most) {
  int multiprocessors = 0;
  const cudaError_t status =
      cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  *most = 2 * multiprocessors;
  if (path == GibbsPath::kTiles) *most = 0;
  if (path == GibbsPath::kSplit) *most = INT64_MAX;
  return status;
}

// How half-steps are launched on a device.
struct StepLaunch {
  unsigned tile_blocks;  // as many as run at the same time
  bool early;            // a half-step may be launched before the one before has ended
};

cudaError_t find_step_launch(int device, StepLaunch* launch) {
  int multiprocessors = 0;
  int resident = 0;
  cudaFuncAttributes attributes{};
  cudaError_t status = cudaSetDevice(device);
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  }
  if (status == cudaSuccess) {
    status = cudaFuncSetAttribute(half_step_kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                  cudaSharedmemCarveoutMaxShared);
  }
  if (status == cudaSuccess) {
    status =
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, half_step_kernel, kTileThreads, 0);
  }
  if (status == cudaSuccess) status = cudaFuncGetAttributes(&attributes, half_step_kernel);
  // Code for older GPUs does not wait for the half-step before, whatever it runs on.
  *launch = {static_cast<unsigned>(multiprocessors * resident), attributes.ptxVersion >= 90};
  return status;
}

class StepLauncher {
 public:
  StepLauncher(const GibbsTask& task, void* workspace, int device, cudaStream_t stream)
      : device_(device), stream_(stream) {
    argument_.step = first_tile_step(task, workspace);
    const QuantileRows<float>& table = task.threshold.table_f32;
    std::copy_n(table.rows, table_size(table), argument_.rows);
  }

  cudaError_t run(GibbsPath path) {
    TileStep& step = argument_.step;
    int64_t most_split = 0;
    cudaError_t status = most_split_blocks(device_, path, &most_split);
    if (status == cudaSuccess) status = find_step_launch(device_, &launch_);
    for (int side : {kVisible, kHidden}) {
      if (status == cudaSuccess && must_pack(step.task, side)) status = pack(side);
    }
    if (status == cudaSuccess && step.task.grey != 0) status = pack_grey();
    for (; status == cudaSuccess && step.half_step < step.task.half_steps; ++step.half_step) {
      status = half_step(most_split);
    }
    for (int side : {kVisible, kHidden}) {
      if (status == cudaSuccess && must_unpack(step.task, side)) status = unpack(side);
    }
    return status;
  }

 private:
  cudaError_t pack(int side) const {
    return launch(device_, blocks_for(pack_items(argument_.step, side)), [&](unsigned blocks) {
      pack_kernel<<<blocks, kGibbsThreads, 0, stream_>>>(argument_.step, side);
    });
  }

  cudaError_t unpack(int side) const {
    return launch(device_, blocks_for(pack_items(argument_.step, side)), [&](unsigned blocks) {
      unpack_kernel<<<blocks, kGibbsThreads, 0, stream_>>>(argument_.step, side);
    });
  }

  cudaError_t pack_grey() const {
    return launch(device_, blocks_for(level_items(argument_.step)), [&](unsigned blocks) {
      pack_levels_kernel<<<blocks, kGibbsThreads, 0, stream_>>>(argument_.step);
    });
  }

  cudaError_t half_step(int64_t most_split) const {
    const TileStep& step = argument_.step;
    const int64_t tiles = tile_count(step);
    if (tiles == 0) return cudaSuccess;
    if (!is_grey(step) && split_blocks(step) <= most_split) {
      const auto blocks = static_cast<unsigned>(split_blocks(step));
      return launch_step(split_half_step_kernel, blocks, kGibbsThreads);
    }
    const unsigned blocks =
        tiles < launch_.tile_blocks ? static_cast<unsigned>(tiles) : launch_.tile_blocks;
    return launch_step(is_grey(step) ? grey_half_step_kernel : half_step_kernel, blocks,
                       kTileThreads);
  }

  cudaError_t launch_step(void (*kernel)(StepArgument), unsigned blocks, unsigned threads) const {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(blocks);
    config.blockDim = dim3(threads);
    config.stream = stream_;
    config.attrs = &attribute;
    // The first half-step reads what other kernels have written, which let nobody start early.
    config.numAttrs = launch_.early && argument_.step.half_step > 0 ? 1 : 0;
    return cudaLaunchKernelEx(&config, kernel, argument_);
  }

  StepArgument argument_;
  StepLaunch launch_ = {};
  const int device_;
  const cudaStream_t stream_;
};

}  // namespace

const char* cuda_gibbs(const GibbsTask& task, void* workspace, GibbsPath path, int device,
                       void* stream) {
  if (task.chains == 0 || task.half_steps == 0) return nullptr;
  if (path == GibbsPath::kFastest || path == GibbsPath::kCluster) {
    Clusters clusters{};
    const cudaError_t status = find_clusters(task, device, &clusters);
    if (status != cudaSuccess) return error_text(status);
    if (clusters.chains != 0) return error_text(run_clusters(clusters, stream));
    if (path == GibbsPath::kCluster) return "no cluster of this GPU holds the layer and the chains";
  }
  return error_text(
      StepLauncher(task, workspace, device, static_cast<cudaStream_t>(stream)).run(path));
}

const char* cuda_sample_float(const FloatTask& task, int device, void* stream) {
  FloatArgument argument;
  argument.task = task;
  const QuantileRows<float>& table = task.table.table_f32;
  if (table.rows != nullptr) std::copy_n(table.rows, table_size(table), argument.rows);
  return error_text(launch(device, blocks_for(float_items(task)), [&](unsigned blocks) {
    sample_float_kernel<<<blocks, kGibbsThreads, 0, static_cast<cudaStream_t>(stream)>>>(argument);
  }));
}

}  // namespace torch_init
