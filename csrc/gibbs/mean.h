// SPDX-License-Identifier: Apache-2.0
//
// A hidden unit's mean given its field, in fixed point. Float32 in a written order, so that it is
// the same integer on every tier and device, and sums of products with states are exact.
#pragma once

#include "gibbs/half_step.h"

namespace torch_init {

// The integer that stands for a mean of 1.
constexpr int32_t kMeanOne = 32767;

// kMeanOne * sigmoid(x), rounded, to 0.51; as 1 - sigmoid(-x) for x < 0, so that it is symmetric.
TI_HOST_DEVICE int16_t fixed_mean(float x) {
  constexpr float kLog2E = 0x1.715476p+0f;
  constexpr float kLn2High = 0x1.62e4p-1f;  // times an integer below 128 exact
  constexpr float kLn2Low = 0x1.7f7d1cp-20f;
  constexpr float kRounder = 0x1.8p23f;  // the last bit of a sum with it counts ones
  const uint32_t sign = float_bits(x) >> 31;
  const float magnitude = bits_float(float_bits(x) & 0x7fffffffu);
  const float y = magnitude < 80.0f ? magnitude : 80.0f;
  const float rounded = y * kLog2E + kRounder;
  const float k = rounded - kRounder;
  const float r = (k * kLn2High - y) + k * kLn2Low;  // |r| < 0.35
  float sum = 1.0f / 720;
  sum = sum * r + 1.0f / 120;
  sum = sum * r + 1.0f / 24;
  sum = sum * r + 1.0f / 6;
  sum = sum * r + 0.5f;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  const uint32_t exponent = float_bits(rounded) - float_bits(kRounder);
  const float e = sum * bits_float((127u - exponent) << 23);  // exp(-y)
  const float mean = static_cast<float>(kMeanOne) / (1.0f + e) + kRounder;
  const uint32_t upper = float_bits(mean) - float_bits(kRounder);
  const uint32_t below = static_cast<uint32_t>(kMeanOne) - upper;
  return static_cast<int16_t>(sign != 0 ? below : upper);
}

// A field in units of 2^-shift.
TI_HOST_DEVICE float ones_of(int32_t field) { return static_cast<float>(field); }

// The same of sources in levels, whose field is so many times as large: of the least and the
// greatest level alone it is that of states 0 and 1.
TI_HOST_DEVICE float ones_of(int64_t field, int64_t levels = kLevels) {
  return static_cast<float>(static_cast<double>(field) / static_cast<double>(levels));
}

// What fixed_mean is given: `ones` times `scale` = 2^-shift, times the inverse temperature.
TI_HOST_DEVICE float real_field(float ones, float scale, int32_t beta) {
  return ones * scale * (static_cast<float>(beta) * (1.0f / static_cast<float>(kBetaOne)));
}

// Whether half-step n writes the hidden units' means, and whether it samples.
TI_HOST_DEVICE bool writes_means(const GibbsTask& task, int64_t n) {
  return task.means != nullptr && n == task.half_steps - 1;
}

TI_HOST_DEVICE bool samples(const GibbsTask& task, int64_t n) {
  return task.means_only == 0 || !writes_means(task, n);
}

// Which states, where they are packed in between, must be unpacked after the last half-step.
TI_HOST_DEVICE bool must_unpack(const GibbsTask& task, int side) {
  int64_t last = task.half_steps - (side_of(task, task.half_steps - 1) == side ? 1 : 2);
  if (last >= 0 && !samples(task, last)) last -= 2;
  return last >= 0;
}

}  // namespace torch_init
