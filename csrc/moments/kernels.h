// SPDX-License-Identifier: Apache-2.0
//
// What one instruction-set tier does to measure: read elements that lie side by side. Every tier
// returns the same bits, sums included: the order of additions is fixed (kernels_inl.h).
#pragma once

#include "moments/moments.h"
#include "moments/tally.h"
#include "portable/dtype.h"

namespace torch_init {

struct MomentsKernels {
  // Adds `count` elements, the first having logical index `index`, to *moments.
  void (*fingerprint)(DType dtype, const void* data, uint64_t index, int64_t count,
                      Moments* moments);
  void (*flow)(DType dtype, const void* data, int64_t count, const Limits& limits,
               Moments* moments);
};

// csrc/cpu/dispatch.cpp knows which of these the processor can run.
const MomentsKernels& baseline_moments_kernels();

#if defined(TORCH_INIT_HAVE_AVX2)
const MomentsKernels& avx2_moments_kernels();
#endif

#if defined(TORCH_INIT_HAVE_AVX512)
const MomentsKernels& avx512_moments_kernels();
#endif

}  // namespace torch_init
