// SPDX-License-Identifier: Apache-2.0
#include "distributions/truncated_normal.h"

#include <cmath>

#include "distributions/special_functions.h"

namespace torch_init {
namespace {

// Narrower than this (times the larger bound), a straight line in place of the density is off by
// 2e-10 of the width, while the difference of two tail probabilities would lose digits.
constexpr double kNarrowWidth = 1e-4;

double larger(double a, double b) { return a > b ? a : b; }
double magnitude(double x) { return x < 0 ? -x : x; }

double tail_probability(double z) {
  if (std::isinf(z)) return 0.0;
  return 0.5 * portable_exp(normal_log_survival(0.0, z));
}

double upper_tail_quantile(double probability) {
  return normal_survival_quantile(0.0, portable_log(2.0 * probability));
}

}  // namespace

TruncatedNormal::TruncatedNormal(double lower, double upper)
    : lower_(lower), upper_(upper), center_(0), shape_(Shape::kStraddling) {
  const double width = upper - lower;
  const double reach = larger(1.0, larger(magnitude(lower), magnitude(upper)));
  if (width * reach < kNarrowWidth) {
    shape_ = Shape::kNarrow;
    center_ = lower;
  } else if (lower >= 0.0 || upper <= 0.0) {
    shape_ = lower >= 0.0 ? Shape::kTail : Shape::kMirroredTail;
    center_ = lower >= 0.0 ? lower : upper;
    near_ = magnitude(center_);
    beyond_ = std::isinf(width) ? 0.0 : portable_exp(normal_log_survival(near_, width));
    mass_ = 1.0 - beyond_;
  } else {
    cut_below_ = tail_probability(-lower);
    cut_above_ = tail_probability(upper);
    mass_ = (1.0 - cut_below_) - cut_above_;
  }
}

double TruncatedNormal::narrow(double mass_below) const {
  const double width = upper_ - lower_;
  const double slope = lower_ + 0.5 * width;  // of -log density, mid-interval
  return (width * mass_below) * (1.0 - (0.5 * (slope * width)) * (1.0 - mass_below));
}

double TruncatedNormal::from_lower(double mass) const {
  switch (shape_) {
    case Shape::kNarrow:
      return narrow(mass);
    case Shape::kTail:
      return normal_survival_quantile(near_, portable_log(1.0 - mass * mass_));
    case Shape::kMirroredTail:
      return -normal_survival_quantile(near_, portable_log(beyond_ + mass * mass_));
    default: {
      const double below = cut_below_ + mass * mass_;
      if (below <= 0.5) return -upper_tail_quantile(below);
      return upper_tail_quantile(cut_above_ + (1.0 - mass) * mass_);
    }
  }
}

double TruncatedNormal::from_upper(double mass) const {
  switch (shape_) {
    case Shape::kNarrow:
      return narrow(1.0 - mass);
    case Shape::kTail:
      return normal_survival_quantile(near_, portable_log(beyond_ + mass * mass_));
    case Shape::kMirroredTail:
      return -normal_survival_quantile(near_, portable_log(1.0 - mass * mass_));
    default: {
      const double above = cut_above_ + mass * mass_;
      if (above <= 0.5) return upper_tail_quantile(above);
      return -upper_tail_quantile(cut_below_ + (1.0 - mass) * mass_);
    }
  }
}

}  // namespace torch_init
