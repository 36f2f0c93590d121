// SPDX-License-Identifier: Apache-2.0
//
// Reading elements one by one: all of them on a GPU, the odd ones at the ends on a CPU.
#pragma once

#include "moments/fingerprint.h"
#include "moments/formats.h"
#include "moments/moments.h"

namespace torch_init {

// order_code of bits of the tensor's dtype: the last at or below the lower limit, the first at or
// above the upper one.
struct Limits {
  int64_t low;
  int64_t high;
};

template <typename Format, Reading kReading>
class Tally {
 public:
  using Code = typename Format::Code;
  using Unsigned = typename UnsignedOf<Code>::Type;

  TI_HOST_DEVICE_MEMBER void add(Code bits, const Limits& limits) {
    const Code magnitude = static_cast<Code>(bits & kMagnitude<Code>);
    const Code order = kReading == Reading::kFlow ? magnitude : order_code(bits);
    zeros_ += magnitude == 0;
    if constexpr (kReading == Reading::kFlow) {
      const int64_t place = order_code(bits);
      const bool is_number = magnitude <= Format::kNotFinite;
      subnormals_ += magnitude != 0 && magnitude < Format::kTiny;
      at_or_below_ += place <= limits.low && is_number;
      at_or_above_ += place >= limits.high && is_number;
    }
    if (magnitude >= Format::kNotFinite) {
      not_finite_ += 1;
      return;
    }
    const double value = unscaled<Format>(bits);
    sum_ += value;
    sum_squares_ += value * value;
    if (order < lowest_) lowest_ = order;
    if (order > highest_) highest_ = order;
  }

  TI_HOST_DEVICE_MEMBER void add_fingerprint(uint64_t term) { fingerprint_ += term; }

  // Adds itself, the tally of `count` elements.
  TI_HOST_DEVICE_MEMBER void add_to(int64_t count, Moments* moments) const {
    Moments part = no_moments();
    part.count = count;
    part.zeros = zeros_;
    part.not_finite = not_finite_;
    part.subnormals = subnormals_;
    part.at_or_below = at_or_below_;
    part.at_or_above = at_or_above_;
    part.fingerprint = fingerprint_;
    part.sum = sum_ * power_of_two(Format::kScale);
    part.sum_squares = sum_squares_ * power_of_two(2 * Format::kScale);
    set_extremes<Format, kReading>(lowest_, highest_, &part);
    add_moments(moments, part);
  }

 private:
  double sum_ = 0.0;
  double sum_squares_ = 0.0;
  uint64_t fingerprint_ = 0;
  int32_t zeros_ = 0;
  int32_t not_finite_ = 0;
  int32_t subnormals_ = 0;
  int32_t at_or_below_ = 0;
  int32_t at_or_above_ = 0;
  Code lowest_ = kMagnitude<Code>;
  Code highest_ = static_cast<Code>(~kMagnitude<Code>);
};

}  // namespace torch_init
