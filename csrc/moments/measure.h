// SPDX-License-Identifier: Apache-2.0
//
// Measuring many tensors, or parts of them, at once.
#pragma once

#include <stddef.h>

#include "moments/kernels.h"
#include "portable/dtype.h"
#include "region/region.h"

namespace torch_init {

struct MeasureTask {
  const void* data;
  DType dtype;
  Region region;
};

// A region is read in chunks of this many elements, in row-major order; what was read of them is
// added up in their order, whoever read them.
constexpr int64_t kMeasureChunk = int64_t{1} << 16;

TI_HOST_DEVICE int64_t chunk_count(const Region& region) {
  return (region.numel + kMeasureChunk - 1) / kMeasureChunk;
}

// Fills moments[i] with what the region of tasks[i] holds, all in one parallel region of at most
// `max_threads` threads.
void host_measure(const MeasureTask* tasks, size_t count, const MomentsKernels& kernels,
                  int max_threads, Moments* moments);

}  // namespace torch_init
