// SPDX-License-Identifier: Apache-2.0
//
// What is known of a tensor, or a part of one, after reading it once.
#pragma once

#include <stdint.h>

#include "portable/portable.h"

namespace torch_init {

// What is read off a tensor besides count, sums, zeros and non-finite elements.
enum class Reading : int32_t {
  // The fingerprint, and the extremes.
  kFingerprint = 0,
  // Subnormals, how many elements lie at or beyond two limits, and the largest absolute value.
  kFlow = 1,
};

// Plain data. Sums and extremes are those of the finite elements; extremes are order_code of the
// bits of a double, and stay as they start if there is no finite element. In flow mode there is no
// lowest, and highest is that of the absolute values.
struct Moments {
  int64_t count;
  int64_t zeros;
  int64_t not_finite;
  int64_t subnormals;
  int64_t at_or_below;  // limits; NaN is neither
  int64_t at_or_above;
  uint64_t fingerprint;
  double sum;
  double sum_squares;
  int64_t lowest;
  int64_t highest;
};

TI_HOST_DEVICE Moments no_moments() {
  return {0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, INT64_MAX, INT64_MIN};
}

// Sums are rounded: the order of calls matters.
TI_HOST_DEVICE void add_moments(Moments* total, const Moments& part) {
  total->count += part.count;
  total->zeros += part.zeros;
  total->not_finite += part.not_finite;
  total->subnormals += part.subnormals;
  total->at_or_below += part.at_or_below;
  total->at_or_above += part.at_or_above;
  total->fingerprint += part.fingerprint;
  total->sum += part.sum;
  total->sum_squares += part.sum_squares;
  if (part.lowest < total->lowest) total->lowest = part.lowest;
  if (part.highest > total->highest) total->highest = part.highest;
}

}  // namespace torch_init
