// SPDX-License-Identifier: Apache-2.0
//
// From the parameters a person writes to the numbers a kernel reads.
#pragma once

#include <memory>

#include "distributions/distribution.h"
#include "distributions/quantile_table.h"

namespace torch_init {

// A lowered distribution together with what keeps its tables alive.
struct LoweredDistribution {
  Distribution distribution;
  std::shared_ptr<const QuantileTable<float>> table_f32;
  std::shared_ptr<const QuantileTable<double>> table_f64;
};

LoweredDistribution lower_constant(double value);

// Uniform on [low, high): low < high.
LoweredDistribution lower_uniform(double low, double high, DType dtype);

// Normal, restricted to [low, high], which lie `lower` and `upper` standard deviations from the
// mean; infinite where unbounded. std > 0, lower < upper.
LoweredDistribution lower_truncated_normal(double mean, double std, double lower, double upper,
                                           double low, double high, DType dtype);

LoweredDistribution lower_logistic(double location, double scale, DType dtype);

// `high` with the given probability, else `low`.
LoweredDistribution lower_two_point(double probability, double low, double high);

LoweredDistribution lower_bits();

// Smallest value of `dtype` that is >= x, and largest that is <= x (or < x). Infinite when there
// is none.
double round_up(double x, DType dtype);
double round_down(double x, DType dtype, bool strictly = false);

}  // namespace torch_init
