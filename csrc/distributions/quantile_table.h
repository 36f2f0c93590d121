// SPDX-License-Identifier: Apache-2.0
//
// Quantile functions held as tables of polynomials over an octave segmentation of u. A truncated
// normal is the normal's code with another table, so it costs what the normal costs.
#pragma once

#include <memory>
#include <vector>

#include "distributions/distribution.h"

namespace torch_init {

template <typename Real>
struct QuantileTable {
  std::vector<Real> coefficients;
  bool symmetric;
  // The table holds Q(u) - center: in a far tail what distinguishes the values is their distance
  // from the bound, which would be lost beside the bound itself.
  double center;

  QuantileRows<Real> rows() const { return {coefficients.data(), symmetric}; }
};

// Standard normal restricted to [lower, upper], in standard deviations; either may be infinite.
// Requires lower < upper. Fitted once per pair of bounds and kept.
template <typename Real>
std::shared_ptr<const QuantileTable<Real>> truncated_normal_table(double lower, double upper);

// Standard logistic: Q(u) = log(u / (1 - u)).
template <typename Real>
std::shared_ptr<const QuantileTable<Real>> logistic_table();

}  // namespace torch_init
