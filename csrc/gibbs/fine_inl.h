// SPDX-License-Identifier: Apache-2.0
//
// Sums of products of integers, less than 2^53 and so exact in double, in any order: for every
// tier, in vectors of TI_VECTOR_BYTES.
#pragma once

#if TI_VECTOR_BYTES > 16
#include <immintrin.h>
#endif
#include <string.h>

#include "portable/portable.h"

namespace torch_init {
namespace {

typedef double Doubles __attribute__((vector_size(TI_VECTOR_BYTES)));
constexpr int64_t kDoubles = TI_VECTOR_BYTES / 8;

// a * b + c, a sum that is exact.
inline Doubles multiply_add(Doubles a, Doubles b, Doubles c) {
#if TI_VECTOR_BYTES == 64
  return _mm512_fmadd_pd(a, b, c);
#elif TI_VECTOR_BYTES == 32
  return _mm256_fmadd_pd(a, b, c);
#else
  return a * b + c;
#endif
}

// A block of sums: so many columns of one matrix times so many of another.
constexpr int64_t kFineUnits = TI_VECTOR_BYTES == 64 ? 32 : 16;
constexpr int64_t kFineRows = TI_VECTOR_BYTES == 64 ? 4 : TI_VECTOR_BYTES == 32 ? 2 : 1;

// sums[r][u] = levels[0][r] * weights[0][u] + ... + levels[count - 1][r] * weights[count - 1][u]
inline void add_fine(const double* levels, const double* weights, int64_t count,
                     double sums[kFineRows][kFineUnits]) {
  constexpr int64_t kVectors = kFineUnits / kDoubles;
  Doubles total[kFineRows][kVectors] = {};
  for (int64_t i = 0; i < count; ++i) {
    Doubles weight[kVectors];
    for (int64_t v = 0; v < kVectors; ++v) {
      memcpy(&weight[v], weights + i * kFineUnits + v * kDoubles, sizeof weight[v]);
    }
    for (int64_t r = 0; r < kFineRows; ++r) {
      const Doubles level = levels[i * kFineRows + r] - Doubles{};  // in all lanes
      for (int64_t v = 0; v < kVectors; ++v) {
        total[r][v] = multiply_add(level, weight[v], total[r][v]);
      }
    }
  }
  memcpy(sums, total, sizeof total);
}

// Of each of `count` rows, `present` numbers, then zeros up to `width`.
template <typename In>
inline void to_doubles(const In* from, int64_t stride, int64_t count, int64_t present,
                       int64_t width, double* to) {
  for (int64_t i = 0; i < count; ++i, from += stride, to += width) {
    for (int64_t k = 0; k < present; ++k) to[k] = static_cast<double>(from[k]);
    for (int64_t k = present; k < width; ++k) to[k] = 0.0;
  }
}

}  // namespace
}  // namespace torch_init
