// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include "distributions/transform.h"

namespace torch_init {

struct Avx2 {
  using Words = __m256i;
  using Floats = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kBlocks = 4;
  // Registers of blocks worked on side by side: one alone leaves the multipliers waiting.
  static constexpr int kInterleaved = 3;

  static Words broadcast(uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
  static Floats broadcast(float x) { return _mm256_set1_ps(x); }
  static Words broadcast_wide(int64_t x) { return _mm256_set1_epi64x(x); }
  static Words consecutive(uint64_t first) {
    return _mm256_add_epi64(_mm256_set1_epi64x(static_cast<int64_t>(first)),
                            _mm256_set_epi64x(3, 2, 1, 0));
  }
  static Words add_wide(Words a, Words b) { return _mm256_add_epi64(a, b); }
  static Words multiply_low(Words a, Words b) { return _mm256_mul_epu32(a, b); }
  static Words high_half(Words a) { return _mm256_srli_epi64(a, 32); }
  static Words exclusive_or(Words a, Words b) { return _mm256_xor_si256(a, b); }
  static Words exclusive_or(Words a, Words b, Words c) {
    return _mm256_xor_si256(_mm256_xor_si256(a, b), c);
  }
  static Words bit_and(Words a, Words b) { return _mm256_and_si256(a, b); }
  static Words bit_or(Words a, Words b) { return _mm256_or_si256(a, b); }
  static Words subtract(Words a, Words b) { return _mm256_sub_epi32(a, b); }
  template <int kBits>
  static Words shift_right(Words a) {
    return _mm256_srli_epi32(a, kBits);
  }
  static Words as_words(Floats a) { return _mm256_castps_si256(a); }
  static Floats as_floats(Words a) { return _mm256_castsi256_ps(a); }
  static Floats to_floats(Words a) { return _mm256_cvtepi32_ps(a); }
  static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
  static Floats fused_multiply_add(Floats a, Floats b, Floats c) {
    return _mm256_fmadd_ps(a, b, c);
  }
  // Operands in the order that makes equal values and zeros of either sign come out as in
  // clamp_value.
  static Floats clamp(Floats x, Floats low, Floats high) {
    return _mm256_min_ps(high, _mm256_max_ps(low, x));
  }
  static Floats flip_sign(Floats x, Words sign) {
    return _mm256_xor_ps(x, _mm256_and_ps(as_floats(sign), _mm256_set1_ps(-0.0f)));
  }
  // Unsigned comparison, through the signed one the machine has.
  static Floats select_below(Words a, Words limit, Floats below, Floats otherwise) {
    const Words top = broadcast(0x80000000u);
    const Words less = _mm256_cmpgt_epi32(exclusive_or(limit, top), exclusive_or(a, top));
    return _mm256_blendv_ps(otherwise, below, as_floats(less));
  }

  // Lane b of the inputs holds a word of block b in its low half; out[0] and out[1] get the
  // words of blocks 0, 1 and 2, 3 in order.
  static void interleave(const Words word[4], Words out[2]) {
    const Words w01 = _mm256_blend_epi32(word[0], _mm256_slli_epi64(word[1], 32), 0xAA);
    const Words w23 = _mm256_blend_epi32(word[2], _mm256_slli_epi64(word[3], 32), 0xAA);
    const Words even = _mm256_unpacklo_epi64(w01, w23);
    const Words odd = _mm256_unpackhi_epi64(w01, w23);
    out[0] = _mm256_permute2x128_si256(even, odd, 0x20);
    out[1] = _mm256_permute2x128_si256(even, odd, 0x31);
  }

  // Rows are fetched whole, 16 bytes each, and transposed: the gather instructions of this
  // generation are several times slower on most processors.
  template <bool kSymmetric>
  struct Table {
    explicit Table(const float* rows) : rows_(reinterpret_cast<const char*>(rows)) {}

    void look_up(Words row, Floats c[4]) const {
      alignas(32) uint32_t at[8];  // byte offsets
      _mm256_store_si256(reinterpret_cast<Words*>(at), _mm256_slli_epi32(row, 4));
      const Floats r04 = pair(at[0], at[4]);
      const Floats r15 = pair(at[1], at[5]);
      const Floats r26 = pair(at[2], at[6]);
      const Floats r37 = pair(at[3], at[7]);
      const Floats low01 = _mm256_unpacklo_ps(r04, r15);
      const Floats low23 = _mm256_unpacklo_ps(r26, r37);
      const Floats high01 = _mm256_unpackhi_ps(r04, r15);
      const Floats high23 = _mm256_unpackhi_ps(r26, r37);
      c[0] = _mm256_shuffle_ps(low01, low23, _MM_SHUFFLE(1, 0, 1, 0));
      c[1] = _mm256_shuffle_ps(low01, low23, _MM_SHUFFLE(3, 2, 3, 2));
      c[2] = _mm256_shuffle_ps(high01, high23, _MM_SHUFFLE(1, 0, 1, 0));
      c[3] = _mm256_shuffle_ps(high01, high23, _MM_SHUFFLE(3, 2, 3, 2));
    }

    // The word's top bit moves the row into the lower half's rows.
    void look_up(Words row, Words word, Floats c[4]) const {
      const Words half = _mm256_srai_epi32(word, 31);
      look_up(
          _mm256_add_epi32(row, bit_and(half, broadcast(uint32_t{Segmentation<float>::kSegments}))),
          c);
    }

   private:
    Floats pair(uint32_t low, uint32_t high) const {
      return _mm256_insertf128_ps(_mm256_castps128_ps256(row(low)), row(high), 1);
    }
    __m128 row(uint32_t at) const {
      return _mm_load_ps(reinterpret_cast<const float*>(rows_ + at));
    }
    const char* rows_;
  };

  static Floats load(const float* from) { return _mm256_loadu_ps(from); }
  static void store(uint32_t* to, Words x) { _mm256_storeu_si256(reinterpret_cast<Words*>(to), x); }
  template <bool kStream>
  static void store(float* to, Floats x) {
    if constexpr (kStream) {
      _mm256_stream_ps(to, x);
    } else {
      _mm256_storeu_ps(to, x);
    }
  }
  template <bool kStream>
  static void store(uint16_t* to, Words x) {
    if constexpr (kStream) {
      _mm256_stream_si256(reinterpret_cast<Words*>(to), x);
    } else {
      _mm256_storeu_si256(reinterpret_cast<Words*>(to), x);
    }
  }
  static void fence() { _mm_sfence(); }

  // Two registers of floats, none of them NaN, to one of bfloat16.
  static Words to_bfloat16(Floats first, Floats second) {
    return _mm256_permute4x64_epi64(
        _mm256_packus_epi32(bfloat16_codes(first), bfloat16_codes(second)),
        _MM_SHUFFLE(3, 1, 2, 0));
  }
  static Words to_float16(Floats first, Floats second) {
    return _mm256_set_m128i(_mm256_cvtps_ph(second, _MM_FROUND_TO_NEAREST_INT),
                            _mm256_cvtps_ph(first, _MM_FROUND_TO_NEAREST_INT));
  }

 private:
  static Words bfloat16_codes(Floats x) {
    const Words bits = as_words(x);
    const Words odd = bit_and(_mm256_srli_epi32(bits, 16), broadcast(1u));
    const Words rounded = _mm256_add_epi32(_mm256_add_epi32(bits, broadcast(0x7fffu)), odd);
    return _mm256_srli_epi32(rounded, 16);
  }
};

}  // namespace torch_init
