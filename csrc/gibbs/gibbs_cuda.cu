// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "gibbs/gibbs_cuda.h"
#include "portable/cuda_launch.h"

namespace torch_init {
namespace {

constexpr int kTableSize = Segmentation<float>::kSegments * Segmentation<float>::kCoefficients;

// What brings its table, a symmetric one, along.
struct StepArgument {
  GibbsStep step;
  float rows[kTableSize];
};

struct FloatArgument {
  FloatTask task;
  float rows[kTableSize];
};

__global__ void __launch_bounds__(kGibbsThreads) pack_kernel(const GibbsStep step, int side) {
  pack_states(DeviceBlock{}, step, side);
}

__global__ void __launch_bounds__(kGibbsThreads) unpack_kernel(const GibbsStep step, int side) {
  unpack_states(DeviceBlock{}, step, side);
}

__global__ void __launch_bounds__(kGibbsThreads)
    half_step_kernel(const __grid_constant__ StepArgument argument) {
  half_step_block(DeviceBlock{}, argument.step, RowsInMemory{argument.rows});
}

__global__ void __launch_bounds__(kGibbsThreads)
    grey_half_step_kernel(const __grid_constant__ StepArgument argument) {
  grey_block(DeviceBlock{}, argument.step, RowsInMemory{argument.rows});
}

__global__ void __launch_bounds__(kGibbsThreads)
    sample_float_kernel(const __grid_constant__ FloatArgument argument) {
  sample_float(DeviceBlock{}, argument.task, RowsInMemory{argument.rows});
}

class Launcher {
 public:
  Launcher(const GibbsTask& task, void* workspace, int device, void* stream)
      : device_(device), stream_(static_cast<cudaStream_t>(stream)) {
    argument_.step = first_gibbs_step(task, static_cast<uint8_t*>(workspace));
    const QuantileRows<float>& table = task.threshold.table_f32;
    std::copy_n(table.rows, table_size(table), argument_.rows);
  }

  cudaError_t run() {
    GibbsStep& step = argument_.step;
    if (step.task.grey != 0) {
      return launch(grey_items(step), [&](unsigned blocks) {
        grey_half_step_kernel<<<blocks, kGibbsThreads, 0, stream_>>>(argument_);
      });
    }
    for (int side : {kVisible, kHidden}) {
      if (!must_pack(step.task, side)) continue;
      const cudaError_t status = launch(pack_items(step, side), [&](unsigned blocks) {
        pack_kernel<<<blocks, kGibbsThreads, 0, stream_>>>(step, side);
      });
      if (status != cudaSuccess) return status;
    }
    for (; step.half_step < step.task.half_steps; ++step.half_step) {
      const cudaError_t status = launch(step_items(step), [&](unsigned blocks) {
        half_step_kernel<<<blocks, kGibbsThreads, 0, stream_>>>(argument_);
      });
      if (status != cudaSuccess) return status;
    }
    for (int side : {kVisible, kHidden}) {
      if (!must_unpack(step.task, side)) continue;
      const cudaError_t status = launch(pack_items(step, side), [&](unsigned blocks) {
        unpack_kernel<<<blocks, kGibbsThreads, 0, stream_>>>(step, side);
      });
      if (status != cudaSuccess) return status;
    }
    return cudaSuccess;
  }

 private:
  template <typename Start>
  cudaError_t launch(int64_t items, const Start& start) const {
    if (items == 0) return cudaSuccess;
    unsigned blocks = 0;
    const cudaError_t status =
        grid_size(device_, (items + kGibbsThreads - 1) / kGibbsThreads, &blocks);
    if (status != cudaSuccess) return status;
    start(blocks);
    return cudaGetLastError();
  }

  StepArgument argument_;
  const int device_;
  const cudaStream_t stream_;
};

}  // namespace

const char* cuda_gibbs(const GibbsTask& task, void* workspace, int device, void* stream) {
  return error_text(Launcher(task, workspace, device, stream).run());
}

const char* cuda_sample_float(const FloatTask& task, int device, void* stream) {
  const int64_t items = float_items(task);
  if (items == 0) return nullptr;
  FloatArgument argument;
  argument.task = task;
  const QuantileRows<float>& table = task.table.table_f32;
  if (table.rows != nullptr) std::copy_n(table.rows, table_size(table), argument.rows);
  unsigned blocks = 0;
  const cudaError_t status =
      grid_size(device, (items + kGibbsThreads - 1) / kGibbsThreads, &blocks);
  if (status != cudaSuccess) return error_text(status);
  sample_float_kernel<<<blocks, kGibbsThreads, 0, static_cast<cudaStream_t>(stream)>>>(argument);
  return error_text(cudaGetLastError());
}

}  // namespace torch_init
