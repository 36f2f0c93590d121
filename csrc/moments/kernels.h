// SPDX-License-Identifier: Apache-2.0
//
// What one instruction-set tier does to measure: read elements that lie side by side. Every tier
// returns the same bits, sums included: the order of additions is fixed (kernels_inl.h).
#pragma once

#include "moments/bins.h"
#include "moments/moments.h"
#include "moments/tally.h"
#include "portable/dtype.h"

namespace torch_init {

// Rows that a tier can count in the narrowest of integers.
constexpr int64_t kMostRows = 120;

struct MomentsKernels {
  // Adds `count` elements, the first having logical index `index`, to *moments.
  void (*fingerprint)(DType dtype, const void* data, uint64_t index, int64_t count,
                      Moments* moments);
  // The other functions do not know the formats of 8 bits.
  void (*flow)(DType dtype, const void* data, int64_t count, const Limits& limits,
               Moments* moments);
  // Counts by bin, once divided by 2^shift, in pairs if that is wanted, the odd ones in
  // bins[kBins]. Everything counts, zeros and what is not finite too.
  void (*bins)(DType dtype, const void* data, int64_t count, int shift, PairCounts* pairs,
               int64_t* bins);
  // Adds, for each of the columns of a matrix, how many elements are greater than 0, their sum and
  // their sum of squares, without those that are not finite. Row r begins row_offset[r] elements
  // after `data` and is dense. At most kMostRows rows.
  void (*features)(DType dtype, const void* data, const int64_t* row_offset, int64_t rows,
                   int64_t columns, double* positive, double* sum, double* sum_squares);
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
