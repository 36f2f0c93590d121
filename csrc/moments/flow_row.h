// SPDX-License-Identifier: Apache-2.0
//
// A row of running totals: its columns, and how a tensor's statistics get there.
#pragma once

#include "moments/bins.h"
#include "moments/moments.h"

namespace torch_init {

enum FlowColumn {
  kCalls = 0,
  kCount = 1,
  kSum = 2,
  kSumSquares = 3,
  kAbsMax = 4,
  kZeros = 5,
  kAtOrBelow = 6,
  kAtOrAbove = 7,
  kNotFiniteColumn = 8,
  kFirstNotFinite = 9,  // the smallest `order` of a call that met one; 0 for none
  kSubnormals = 10,
  kFlowColumns = 12,  // then come the bins of the histogram
};

// Adds the moments of one call on a tensor that must still be divided by `scale`.
TI_HOST_DEVICE void add_to_row(const Moments& moments, int64_t order, double scale, double* row) {
  row[kCalls] += 1.0;
  row[kCount] += static_cast<double>(moments.count);
  row[kSum] += moments.sum / scale;
  row[kSumSquares] += moments.sum_squares / scale / scale;
  if (moments.highest != INT64_MIN) {
    const double largest = bits_double(static_cast<uint64_t>(moments.highest)) / scale;
    if (largest > row[kAbsMax]) row[kAbsMax] = largest;
  }
  row[kZeros] += static_cast<double>(moments.zeros);
  row[kAtOrBelow] += static_cast<double>(moments.at_or_below);
  row[kAtOrAbove] += static_cast<double>(moments.at_or_above);
  row[kSubnormals] += static_cast<double>(moments.subnormals);
  if (moments.not_finite == 0) return;
  const double stamp = static_cast<double>(order);
  row[kNotFiniteColumn] += static_cast<double>(moments.not_finite);
  if (row[kFirstNotFinite] == 0.0 || stamp < row[kFirstNotFinite]) row[kFirstNotFinite] = stamp;
}

}  // namespace torch_init
