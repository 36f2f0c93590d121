// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <immintrin.h>

#include "distributions/transform.h"

namespace torch_init {

struct Avx512 {
  using Words = __m512i;
  using Floats = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kBlocks = 8;
  // Registers of blocks worked on side by side: one alone leaves the multipliers waiting.
  static constexpr int kInterleaved = 2;

  static Words broadcast(uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
  static Floats broadcast(float x) { return _mm512_set1_ps(x); }
  static Words broadcast_wide(int64_t x) { return _mm512_set1_epi64(x); }
  static Words consecutive(uint64_t first) {
    return _mm512_add_epi64(_mm512_set1_epi64(static_cast<int64_t>(first)),
                            _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0));
  }
  static Words add_wide(Words a, Words b) { return _mm512_add_epi64(a, b); }
  static Words multiply_low(Words a, Words b) { return _mm512_mul_epu32(a, b); }
  static Words high_half(Words a) { return _mm512_srli_epi64(a, 32); }
  static Words exclusive_or(Words a, Words b) { return _mm512_xor_si512(a, b); }
  static Words exclusive_or(Words a, Words b, Words c) {
    return _mm512_ternarylogic_epi32(a, b, c, 0x96);
  }
  static Words bit_and(Words a, Words b) { return _mm512_and_si512(a, b); }
  static Words bit_or(Words a, Words b) { return _mm512_or_si512(a, b); }
  static Words subtract(Words a, Words b) { return _mm512_sub_epi32(a, b); }
  template <int kBits>
  static Words shift_right(Words a) {
    return _mm512_srli_epi32(a, kBits);
  }
  static Words as_words(Floats a) { return _mm512_castps_si512(a); }
  static Floats as_floats(Words a) { return _mm512_castsi512_ps(a); }
  static Floats to_floats(Words a) { return _mm512_cvtepi32_ps(a); }
  static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats fused_multiply_add(Floats a, Floats b, Floats c) {
    return _mm512_fmadd_ps(a, b, c);
  }
  // Operands in the order that makes equal values and zeros of either sign come out as in
  // clamp_value.
  static Floats clamp(Floats x, Floats low, Floats high) {
    return _mm512_min_ps(high, _mm512_max_ps(low, x));
  }
  static Floats flip_sign(Floats x, Words sign) {
    // x ^ (sign & top bit)
    return as_floats(_mm512_ternarylogic_epi32(as_words(x), sign, broadcast(0x80000000u), 0x78));
  }
  static Floats select_below(Words a, Words limit, Floats below, Floats otherwise) {
    return _mm512_mask_blend_ps(_mm512_cmplt_epu32_mask(a, limit), otherwise, below);
  }

  // Lane b of the inputs holds a word of block b in its low half; out[0] and out[1] get the
  // words of blocks 0-3 and 4-7 in order.
  static void interleave(const Words word[4], Words out[2]) {
    const __mmask16 upper_halves = 0xAAAA;
    const Words w01 = _mm512_mask_mov_epi32(word[0], upper_halves, _mm512_slli_epi64(word[1], 32));
    const Words w23 = _mm512_mask_mov_epi32(word[2], upper_halves, _mm512_slli_epi64(word[3], 32));
    const Words even = _mm512_unpacklo_epi64(w01, w23);
    const Words odd = _mm512_unpackhi_epi64(w01, w23);
    const Words first = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
    const Words second = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
    out[0] = _mm512_permutex2var_epi64(even, first, odd);
    out[1] = _mm512_permutex2var_epi64(even, second, odd);
  }

  // The last 32 rows serve all but 1 in 205 words: they are kept in registers, the others are
  // gathered when a register of words happens to need one.
  template <bool kSymmetric>
  struct Table {
    static constexpr int kHalves = kSymmetric ? 1 : 2;
    static constexpr int kSegments = Segmentation<float>::kSegments;
    static constexpr int kFirstHot = kSegments - 32;

    explicit Table(const float* rows) : rows_(rows) {
      const Words lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
      for (int half = 0; half < kHalves; ++half) {
        for (int part = 0; part < 2; ++part) {
          const int row = half * kSegments + kFirstHot + part * 16;
          const Words at = _mm512_slli_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(row)), 2);
          for (int k = 0; k < 4; ++k) hot_[half][k][part] = _mm512_i32gather_ps(at, rows + k, 4);
        }
      }
    }

    void look_up(Words row, Floats c[4]) const {
      const Words hot = _mm512_sub_epi32(row, _mm512_set1_epi32(kFirstHot));
      for (int k = 0; k < 4; ++k) c[k] = hot_row(0, k, hot);
      fetch_cold(row, _mm512_cmplt_epi32_mask(hot, _mm512_setzero_si512()), c);
    }

    // The word's top bit moves the row into the lower half's rows.
    void look_up(Words row, Words word, Floats c[4]) const {
      const Words hot = _mm512_sub_epi32(row, _mm512_set1_epi32(kFirstHot));
      const __mmask16 lower = _mm512_movepi32_mask(word);
      for (int k = 0; k < 4; ++k) {
        c[k] = _mm512_mask_blend_ps(lower, hot_row(0, k, hot), hot_row(kHalves - 1, k, hot));
      }
      const Words full = _mm512_mask_add_epi32(row, lower, row, _mm512_set1_epi32(kSegments));
      fetch_cold(full, _mm512_cmplt_epi32_mask(hot, _mm512_setzero_si512()), c);
    }

   private:
    Floats hot_row(int half, int k, Words hot) const {
      return _mm512_permutex2var_ps(hot_[half][k][0], hot, hot_[half][k][1]);
    }
    void fetch_cold(Words row, __mmask16 cold, Floats c[4]) const {
      if (__builtin_expect(cold == 0, 1)) return;
      const Words at = _mm512_slli_epi32(row, 2);
      for (int k = 0; k < 4; ++k) c[k] = _mm512_mask_i32gather_ps(c[k], cold, at, rows_ + k, 4);
    }

    const float* rows_;
    Floats hot_[kHalves][4][2];
  };

  static Floats load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(uint32_t* to, Words x) { _mm512_storeu_si512(to, x); }
  template <bool kStream>
  static void store(float* to, Floats x) {
    if constexpr (kStream) {
      _mm512_stream_ps(to, x);
    } else {
      _mm512_storeu_ps(to, x);
    }
  }
  template <bool kStream>
  static void store(uint16_t* to, Words x) {
    if constexpr (kStream) {
      _mm512_stream_si512(reinterpret_cast<Words*>(to), x);
    } else {
      _mm512_storeu_si512(to, x);
    }
  }
  static void fence() { _mm_sfence(); }

  // Two registers of floats, none of them NaN, to one of bfloat16. The conversion instructions
  // of AVX512-BF16 would flush subnormals.
  static Words to_bfloat16(Floats first, Floats second) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(bfloat16_codes(first))),
                              _mm512_cvtepi32_epi16(bfloat16_codes(second)), 1);
  }
  static Words to_float16(Floats first, Floats second) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(float16_codes(first)), float16_codes(second),
                              1);
  }

 private:
  // The zero-masked form: g++ 12 warns of the unmasked one's undefined source operand.
  static __m256i float16_codes(Floats x) {
    return _mm512_maskz_cvtps_ph(0xffff, x, _MM_FROUND_TO_NEAREST_INT);
  }
  static Words bfloat16_codes(Floats x) {
    const Words bits = as_words(x);
    const Words odd = bit_and(_mm512_srli_epi32(bits, 16), broadcast(1u));
    const Words rounded = _mm512_add_epi32(_mm512_add_epi32(bits, broadcast(0x7fffu)), odd);
    return _mm512_srli_epi32(rounded, 16);
  }
};

}  // namespace torch_init
