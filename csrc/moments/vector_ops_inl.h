// SPDX-License-Identifier: Apache-2.0
//
// Vectors of TI_VECTOR_BYTES bytes, and the few operations that compilers do not find on their
// own. Everything else is written with the operators that g++ and clang have for vectors.
#pragma once

#if TI_VECTOR_BYTES > 16
#include <immintrin.h>
#endif

#include <stdint.h>
#include <string.h>

#include "moments/formats.h"

namespace torch_init {
namespace {

template <typename Element>
struct VectorOf {
  typedef Element Type __attribute__((vector_size(TI_VECTOR_BYTES)));
};
template <typename Element>
using Vector = typename VectorOf<Element>::Type;

using Floats = Vector<float>;
using Doubles = Vector<double>;
using Words = Vector<uint32_t>;
using Wides = Vector<uint64_t>;

template <typename Lanes>
inline __attribute__((always_inline)) Lanes load(const void* at) {
  Lanes x;
  memcpy(&x, at, sizeof x);
  return x;
}

template <typename Lanes>
inline __attribute__((always_inline)) void store(void* at, Lanes x) {
  memcpy(at, &x, sizeof x);
}

template <typename Lanes, typename Element>
inline __attribute__((always_inline)) Lanes broadcast(Element x) {
  return Lanes{} + x;
}

template <typename Lanes>
inline __attribute__((always_inline)) bool any(Lanes mask) {
#if TI_VECTOR_BYTES == 64
  return _mm512_test_epi64_mask((__m512i)mask, (__m512i)mask) != 0;
#elif TI_VECTOR_BYTES == 32
  return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#else
  const Wides wide = (Wides)mask;
  return (wide[0] | wide[1]) != 0;
#endif
}

// Counters, of which those grow by 1 whose lane of the mask is set.
template <typename Lanes, typename Mask>
inline __attribute__((always_inline)) Lanes counted(Lanes counters, Mask mask) {
#if TI_VECTOR_BYTES == 64
  return mask ? counters + 1 : counters;  // one masked addition
#else
  return counters - (Lanes)mask;
#endif
}

// The products of the low halves of 64-bit lanes.
inline __attribute__((always_inline)) Wides multiply_low_halves(Wides a, Wides b) {
#if TI_VECTOR_BYTES == 64
  return (Wides)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif TI_VECTOR_BYTES == 32
  return (Wides)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#else
  return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

// sum + x * x, where x is a float, so that the product is exact.
inline __attribute__((always_inline)) Doubles add_exact_square(Doubles sum, Doubles x) {
#if TI_VECTOR_BYTES == 64
  return _mm512_fmadd_pd(x, x, sum);
#elif TI_VECTOR_BYTES == 32
  return _mm256_fmadd_pd(x, x, sum);
#else
  return sum + x * x;
#endif
}

inline __attribute__((always_inline)) Doubles lower_half(Floats x) {
#if TI_VECTOR_BYTES == 64
  return _mm512_cvtps_pd(_mm512_castps512_ps256(x));
#elif TI_VECTOR_BYTES == 32
  return _mm256_cvtps_pd(_mm256_castps256_ps128(x));
#else
  return Doubles{static_cast<double>(x[0]), static_cast<double>(x[1])};
#endif
}

inline __attribute__((always_inline)) Doubles upper_half(Floats x) {
#if TI_VECTOR_BYTES == 64
  return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
#elif TI_VECTOR_BYTES == 32
  return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
#else
  return Doubles{static_cast<double>(x[2]), static_cast<double>(x[3])};
#endif
}

// The values of the elements that are number i of their words, the words of the lower or the upper
// half of a vector, kScale powers of two too low.
template <typename Format, typename Codes>
inline __attribute__((always_inline)) Doubles values(Codes bits, int i, int half) {
  constexpr int kSize = sizeof(typename Format::Code);
  if constexpr (kSize == 8) {
    return (Doubles)bits;
  } else {
    const Words top = (Words)bits << (32 - 8 * (i + 1) * kSize);
    const Floats value = (Floats)((Words)((Vector<int32_t>)top >> Format::kDown) & Format::kKept);
    return half == 0 ? lower_half(value) : upper_half(value);
  }
}

template <typename Format>
inline __attribute__((always_inline)) Doubles add_square(Doubles sum, Doubles x) {
  return sizeof(typename Format::Code) == 8 ? sum + x * x : add_exact_square(sum, x);
}

}  // namespace
}  // namespace torch_init
