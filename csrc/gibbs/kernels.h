// SPDX-License-Identifier: Apache-2.0
//
// What one instruction set does to run Gibbs chains. Every tier returns the same bits.
#pragma once

#include "gibbs/half_step.h"

namespace torch_init {

struct GibbsKernels {
  // The most chains that one call takes: as many as share what is read of the weights.
  int64_t most_chains;
  // Bytes of scratch memory that `run` needs for so many chains.
  int64_t (*scratch_size)(const GibbsTask& task, int64_t count);
  // All half-steps of chains first ... first + count - 1 of the task. `scratch` is aligned to 64
  // bytes.
  void (*run)(const GibbsTask& task, int64_t first, int64_t count, void* scratch);
};

}  // namespace torch_init
