// SPDX-License-Identifier: Apache-2.0
//
// The body of every tier. A tier's file defines TI_VECTOR_BYTES, includes this once and exports
// kKernels.
#pragma once

#include "moments/features_inl.h"
#include "moments/histogram_inl.h"
#include "moments/rows_inl.h"

namespace torch_init {
namespace {

void read_fingerprint(DType dtype, const void* data, uint64_t index, int64_t count,
                      Moments* moments) {
  with_format(dtype, [&](auto format) {
    read_span<decltype(format), Reading::kFingerprint>(static_cast<const char*>(data), index, count,
                                                       Limits{}, moments);
  });
}

void read_flow(DType dtype, const void* data, int64_t count, const Limits& limits,
               Moments* moments) {
  with_flow_format(dtype, [&](auto format) {
    read_span<decltype(format), Reading::kFlow>(static_cast<const char*>(data), 0, count, limits,
                                                moments);
  });
}

void read_bins(DType dtype, const void* data, int64_t count, int shift, PairCounts* pairs,
               int64_t* bins) {
  with_flow_format(dtype, [&](auto format) {
    count_bins<decltype(format)>(static_cast<const char*>(data), count, shift, pairs, bins);
  });
}

void read_features(DType dtype, const void* data, const int64_t* row_offset, int64_t rows,
                   int64_t columns, double* positive, double* sum, double* sum_squares) {
  with_flow_format(dtype, [&](auto format) {
    read_columns<decltype(format)>(static_cast<const char*>(data), row_offset, rows, columns,
                                   positive, sum, sum_squares);
  });
}

constexpr MomentsKernels kKernels = {read_fingerprint, read_flow, read_bins, read_features};

}  // namespace
}  // namespace torch_init
