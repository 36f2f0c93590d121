// SPDX-License-Identifier: Apache-2.0
//
// A distribution, lowered to what a kernel needs: which map from word to value, and its numbers.
// Plain data, copied as it is to a GPU.
#pragma once

#include "portable/dtype.h"
#include "portable/portable.h"

namespace torch_init {

enum class DistributionKind : int32_t {
  kConstant = 0,  // location
  kUniform = 1,   // clamp(location + scale * u)
  kQuantile = 2,  // clamp(location + scale * Q(u)), Q held as a table
  kTwoPoint = 3,  // high if word < threshold, else low
  kBits = 4,      // the word
};

template <typename Real>
struct ValueMap {
  Real scale;
  Real location;
  Real low;
  Real high;
};

// One row per segment of the octave segmentation, lowest power first (quantile_table.h). A
// symmetric table holds the upper half; the lower half is its negative. Otherwise the rows of
// the lower half follow those of the upper.
template <typename Real>
struct QuantileRows {
  const Real* rows;
  bool symmetric;
};

struct Distribution {
  DistributionKind kind;
  bool bounded;  // low and high must be enforced
  uint32_t threshold;
  ValueMap<float> f32;
  ValueMap<double> f64;
  QuantileRows<float> table_f32;
  QuantileRows<double> table_f64;
};

}  // namespace torch_init
