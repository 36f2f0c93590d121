// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace torch_init {

// Quantile function of the standard normal restricted to [lower, upper], minus `center()`,
// evaluated from either end so that neither tail loses its digits.
class TruncatedNormal {
 public:
  TruncatedNormal(double lower, double upper);

  double center() const { return center_; }
  bool symmetric() const { return shape_ == Shape::kStraddling && lower_ == -upper_; }
  double from_lower(double mass) const;  // mass: fraction of probability below the result
  double from_upper(double mass) const;  // mass: fraction of probability above the result

 private:
  enum class Shape { kNarrow, kTail, kMirroredTail, kStraddling };

  double narrow(double mass_below) const;

  double lower_;
  double upper_;
  double center_;
  Shape shape_;
  // kTail, kMirroredTail: distance of the near bound from 0, probability relative to the near
  // bound's tail that lies beyond the far bound, and the rest of it.
  double near_ = 0;
  double beyond_ = 0;
  // kStraddling: probability cut off below and above.
  double cut_below_ = 0;
  double cut_above_ = 0;
  double mass_ = 0;  // probability kept, in the same units
};

}  // namespace torch_init
