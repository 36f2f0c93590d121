// SPDX-License-Identifier: Apache-2.0
//
// What annealed importance sampling adds up: log(1 + exp(x)) at two inverse temperatures, as
// products of 1 + exp(-|x|), each in [1, 2], and a sum of the positive x. Float64, in a fixed
// order: the same bits on every tier.
#pragma once

#include "portable/portable.h"

namespace torch_init {

// Fields whose products are added up at a time: 2^512 is within range.
constexpr int64_t kProductFields = 512;
constexpr int kProductLanes = 8;

struct SoftplusSums {
  double products[2];  // of 1 + exp(-|field| * scale[k])
  int64_t positive;    // sum of the positive fields
};

// e^-x, x >= 0, to 1e-15; 2^-1010 or so where it is less.
TI_HOST_DEVICE double exp_of_minus(double x) {
  constexpr double kLog2E = 0x1.71547652b82fep+0;
  constexpr double kLn2High = 0x1.62e42fee00000p-1;
  constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  constexpr double kRounder = 0x1.8p52;  // the last bit of a sum with it counts ones
  x = x < 700.0 ? x : 700.0;
  const double rounded = x * kLog2E + kRounder;
  const double k = rounded - kRounder;
  const double r = (k * kLn2High - x) + k * kLn2Low;  // |r| < 0.35
  double sum = 1.0 / 479001600;
  sum = sum * r + 1.0 / 39916800;
  sum = sum * r + 1.0 / 3628800;
  sum = sum * r + 1.0 / 362880;
  sum = sum * r + 1.0 / 40320;
  sum = sum * r + 1.0 / 5040;
  sum = sum * r + 1.0 / 720;
  sum = sum * r + 1.0 / 120;
  sum = sum * r + 1.0 / 24;
  sum = sum * r + 1.0 / 6;
  sum = sum * r + 0.5;
  sum = sum * r + 1.0;
  sum = sum * r + 1.0;
  const uint64_t exponent = double_bits(rounded) - double_bits(kRounder);
  return sum * bits_double((uint64_t{1023} - exponent) << 52);
}

// `count` fields, at most kProductFields.
TI_HOST_DEVICE SoftplusSums softplus_sums(const int32_t* fields, int64_t count,
                                          const double scale[2]) {
  double product[2][kProductLanes];
  for (int k = 0; k < 2; ++k) {
    for (int lane = 0; lane < kProductLanes; ++lane) product[k][lane] = 1.0;
  }
  int64_t positive = 0;
  for (int64_t first = 0; first < count; first += kProductLanes) {
    const int64_t left = count - first;
    double magnitude[kProductLanes] = {};
    double weight[kProductLanes];  // 0 beyond the end, where a factor is 1
    for (int lane = 0; lane < kProductLanes; ++lane) {
      const int32_t field = lane < left ? fields[first + lane] : 0;
      positive += field > 0 ? field : 0;
      magnitude[lane] = static_cast<double>(field < 0 ? -field : field);
      weight[lane] = lane < left ? 1.0 : 0.0;
    }
    for (int k = 0; k < 2; ++k) {
      for (int lane = 0; lane < kProductLanes; ++lane) {
        product[k][lane] *= 1.0 + weight[lane] * exp_of_minus(magnitude[lane] * scale[k]);
      }
    }
  }
  SoftplusSums sums = {{1.0, 1.0}, positive};
  for (int k = 0; k < 2; ++k) {
    for (int lane = 0; lane < kProductLanes; ++lane) sums.products[k] *= product[k][lane];
  }
  return sums;
}

// The sum of the weights of the units that are on.
TI_HOST_DEVICE int64_t sum_of_on(const uint8_t* states, const int32_t* weights, int64_t count) {
  int64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += states[i] != 0 ? weights[i] : 0;
  return sum;
}

}  // namespace torch_init
