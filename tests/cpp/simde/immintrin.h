// SPDX-License-Identifier: Apache-2.0
//
// Stands in for the compiler's <immintrin.h> and lets the AVX-512 tier be compiled, as it is,
// for a processor without AVX-512: SIMDe (https://github.com/simd-everywhere/simde) emulates
// the intrinsics in portable C. What SIMDe 0.7 lacks, or rounds otherwise, follows, lane by lane.
#pragma once

#define SIMDE_NO_NATIVE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/simde-f16.h>
#include <simde/x86/avx512.h>
#include <stdint.h>
#include <string.h>

using __mmask16 = simde__mmask16;
using __mmask64 = simde__mmask64;
#define _MM_FROUND_NO_EXC 0x08

// SIMDe rounds the product, then the sum.
static inline simde__m512 one_rounding_fmadd_ps(simde__m512 a, simde__m512 b, simde__m512 c) {
  simde__m512_private r = simde__m512_to_private(c);
  const simde__m512_private x = simde__m512_to_private(a);
  const simde__m512_private y = simde__m512_to_private(b);
  for (int i = 0; i < 16; ++i) r.f32[i] = __builtin_fmaf(x.f32[i], y.f32[i], r.f32[i]);
  return simde__m512_from_private(r);
}
#undef _mm512_fmadd_ps
#define _mm512_fmadd_ps one_rounding_fmadd_ps

static inline simde__m512 _mm512_cvtepi32_ps(simde__m512i a) {
  simde__m512_private r;
  const simde__m512i_private x = simde__m512i_to_private(a);
  for (int i = 0; i < 16; ++i) r.f32[i] = static_cast<float>(x.i32[i]);
  return simde__m512_from_private(r);
}

static inline simde__m256i _mm512_cvtepi32_epi16(simde__m512i a) {
  simde__m256i_private r;
  const simde__m512i_private x = simde__m512i_to_private(a);
  for (int i = 0; i < 16; ++i) r.u16[i] = static_cast<uint16_t>(x.u32[i]);
  return simde__m256i_from_private(r);
}

static inline simde__mmask16 _mm512_cmplt_epi32_mask(simde__m512i a, simde__m512i b) {
  return simde_mm512_cmpgt_epi32_mask(b, a);
}

static inline simde__mmask16 _mm512_cmplt_epu32_mask(simde__m512i a, simde__m512i b) {
  const simde__m512i_private x = simde__m512i_to_private(a);
  const simde__m512i_private y = simde__m512i_to_private(b);
  unsigned mask = 0;
  for (int i = 0; i < 16; ++i) mask |= static_cast<unsigned>(x.u32[i] < y.u32[i]) << i;
  return static_cast<simde__mmask16>(mask);
}

static inline simde__m512 _mm512_mask_i32gather_ps(simde__m512 otherwise, simde__mmask16 mask,
                                                   simde__m512i index, const void* base,
                                                   int scale) {
  simde__m512_private r = simde__m512_to_private(otherwise);
  const simde__m512i_private at = simde__m512i_to_private(index);
  for (int i = 0; i < 16; ++i) {
    if (((mask >> i) & 1) == 0) continue;
    const char* from = static_cast<const char*>(base) + int64_t{at.i32[i]} * scale;
    float lane;
    memcpy(&lane, from, sizeof lane);
    r.f32[i] = lane;
  }
  return simde__m512_from_private(r);
}

static inline simde__m512 _mm512_i32gather_ps(simde__m512i index, const void* base, int scale) {
  return _mm512_mask_i32gather_ps(simde_mm512_setzero_ps(), 0xffff, index, base, scale);
}

// To nearest even, the one rounding mode in use.
static inline simde__m256i _mm512_maskz_cvtps_ph(simde__mmask16 mask, simde__m512 a, int) {
  simde__m256i_private r;
  const simde__m512_private x = simde__m512_to_private(a);
  for (int i = 0; i < 16; ++i) {
    const uint16_t half = simde_float16_as_uint16(simde_float16_from_float32(x.f32[i]));
    r.u16[i] = ((mask >> i) & 1) != 0 ? half : uint16_t{0};
  }
  return simde__m256i_from_private(r);
}

static inline void _mm512_stream_ps(void* to, simde__m512 a) { simde_mm512_store_ps(to, a); }
static inline void _mm512_stream_si512(void* to, simde__m512i a) { simde_mm512_store_si512(to, a); }

static inline simde__m512i _mm512_maskz_loadu_epi8(simde__mmask64 mask, const void* from) {
  simde__m512i_private r;
  for (int i = 0; i < 64; ++i) {
    r.u8[i] = ((mask >> i) & 1) != 0 ? static_cast<const uint8_t*>(from)[i] : uint8_t{0};
  }
  return simde__m512i_from_private(r);
}

static inline void _mm512_mask_storeu_epi8(void* to, simde__mmask64 mask, simde__m512i a) {
  const simde__m512i_private x = simde__m512i_to_private(a);
  for (int i = 0; i < 64; ++i) {
    if (((mask >> i) & 1) != 0) static_cast<uint8_t*>(to)[i] = x.u8[i];
  }
}

static inline simde__m512i _mm512_maskz_loadu_epi32(simde__mmask16 mask, const void* from) {
  simde__m512i_private r;
  for (int i = 0; i < 16; ++i) {
    r.i32[i] = ((mask >> i) & 1) != 0 ? static_cast<const int32_t*>(from)[i] : 0;
  }
  return simde__m512i_from_private(r);
}

static inline simde__m512i _mm512_srai_epi64(simde__m512i a, unsigned count) {
  simde__m512i_private x = simde__m512i_to_private(a);
  for (int i = 0; i < 8; ++i) x.i64[i] = x.i64[i] >> count;
  return simde__m512i_from_private(x);
}

// Downwards, the one rounding asked for.
static inline simde__m512i _mm512_cvt_roundps_epi32(simde__m512 a, int) {
  simde__m512i_private r;
  const simde__m512_private x = simde__m512_to_private(a);
  for (int i = 0; i < 16; ++i) r.i32[i] = static_cast<int32_t>(__builtin_floorf(x.f32[i]));
  return simde__m512i_from_private(r);
}
