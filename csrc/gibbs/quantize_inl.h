// SPDX-License-Identifier: Apache-2.0
//
// The quantisation of rows, for every tier: plain loops, which compilers turn into its vectors.
#pragma once

#include "gibbs/kernels.h"
#include "portable/portable.h"

namespace torch_init {
namespace {

// With magnitudes capped so often, a 32-bit sum of them cannot overflow.
constexpr int64_t kQuantizeSpan = 256;

inline void cap(uint32_t* magnitudes, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    magnitudes[i] = magnitudes[i] < kCappedMagnitude ? magnitudes[i] : kCappedMagnitude;
  }
}

template <typename Real>
void quantize_rows(const QuantizeRows<Real>& task) {
  for (int64_t r = 0; r < task.rows; ++r) {
    const Real* __restrict const in = task.weight + r * task.columns;
    int32_t* __restrict const out = task.out + r * task.out_stride;
    for (int64_t begin = 0; begin < task.columns; begin += kQuantizeSpan) {
      const int64_t left = task.columns - begin;
      const int64_t end = begin + (left < kQuantizeSpan ? left : kQuantizeSpan);
      uint32_t* __restrict const column_sums = task.column_sums;
      uint32_t* __restrict const column_magnitudes = task.column_magnitudes;
      uint32_t sum = 0;
      uint32_t magnitude = 0;
      for (int64_t j = begin; j < end; ++j) {
        // Nearest, ties to even: the last bit of this sum counts ones.
        const double shifted = static_cast<double>(in[j]) * task.scale + 0x1.8p52;
        const uint32_t weight = static_cast<uint32_t>(double_bits(shifted));
        const uint32_t absolute = static_cast<int32_t>(weight) < 0 ? 0u - weight : weight;
        out[j] = static_cast<int32_t>(weight);
        column_sums[j] += weight;
        column_magnitudes[j] += absolute;
        sum += weight;
        magnitude += absolute;
      }
      task.row_sums[r] += sum;
      task.row_magnitudes[r] += magnitude;
      cap(task.row_magnitudes + r, 1);
    }
    if (r % kQuantizeSpan == kQuantizeSpan - 1) cap(task.column_magnitudes, task.columns);
  }
  cap(task.column_magnitudes, task.columns);
}

// The greatest magnitude's bits, which order magnitudes; infinities and NaN are the greatest.
inline uint32_t greatest_bits(const float* values, int64_t count) {
  uint32_t greatest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = float_bits(values[i]) & 0x7fffffffu;
    greatest = bits > greatest ? bits : greatest;
  }
  return greatest;
}

inline uint64_t greatest_bits(const double* values, int64_t count) {
  uint64_t greatest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t bits = double_bits(values[i]) & 0x7fffffffffffffffu;
    greatest = bits > greatest ? bits : greatest;
  }
  return greatest;
}

inline double greatest_magnitude(const float* values, int64_t count) {
  return static_cast<double>(bits_float(greatest_bits(values, count)));
}

inline double greatest_magnitude(const double* values, int64_t count) {
  return bits_double(greatest_bits(values, count));
}

template <typename Real>
constexpr QuantizeKernels<Real> kQuantizeKernels = {greatest_magnitude, quantize_rows<Real>};

}  // namespace
}  // namespace torch_init
