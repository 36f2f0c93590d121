// SPDX-License-Identifier: Apache-2.0
//
// A row of running totals: its columns, and how a tensor's statistics get there.
#pragma once

#include "moments/formats.h"
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

// Bin i counts 2^(i - 40) <= |x| < 2^(i - 39), the ends what lies beyond.
constexpr int kBins = 64;
constexpr int kLowestBinExponent = -40;

// round(log2(scale)) of a positive, finite number.
TI_HOST_DEVICE int rounded_log2(float scale) {
  const uint32_t bits = float_bits(scale);
  constexpr uint32_t kAboveRootOfTwo = 0x3504f4;  // mantissa of the first float32 above 2^0.5
  return static_cast<int>(bits >> 23) - 127 + ((bits & 0x7fffffu) >= kAboveRootOfTwo);
}

// The bin of an exponent (ExponentCounts) once divided by 2^shift.
TI_HOST_DEVICE int bin_of_exponent(int exponent, int shift) {
  const int bin = exponent - 127 - kLowestBinExponent - shift;
  return bin < 0 ? 0 : bin >= kBins ? kBins - 1 : bin;
}

TI_HOST_DEVICE double absolute_of_order_code(int64_t order) {
  const int64_t bits = order_code(order) & kMagnitude<int64_t>;
  return bits_double(static_cast<uint64_t>(bits));
}

TI_HOST_DEVICE double absolute_maximum(const Moments& moments) {
  if (moments.lowest > moments.highest) return 0.0;
  const double low = absolute_of_order_code(moments.lowest);
  const double high = absolute_of_order_code(moments.highest);
  return low > high ? low : high;
}

// Adds the moments of one call on a tensor that must still be divided by `scale`.
TI_HOST_DEVICE void add_to_row(const Moments& moments, int64_t order, double scale, double* row) {
  row[kCalls] += 1.0;
  row[kCount] += static_cast<double>(moments.count);
  row[kSum] += moments.sum / scale;
  row[kSumSquares] += moments.sum_squares / scale / scale;
  const double largest = absolute_maximum(moments) / scale;
  if (largest > row[kAbsMax]) row[kAbsMax] = largest;
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
