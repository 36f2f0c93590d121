// SPDX-License-Identifier: Apache-2.0
//
// States between half-steps, packed: a 32-bit lane holds sixteen units of its chain, four bits in
// each byte, the form in which the permutation of gibbs_lookup_avx512.h reads them.
#pragma once

#include "cpu/simd_avx512.h"
#include "gibbs/half_step.h"

namespace torch_init {
namespace {

constexpr int kLanes = 16;
constexpr int64_t kQuadUnits = 16;

int64_t quads(int64_t units) { return padded(units) / kQuadUnits; }

// Bit i of 16 to bit i % 4 of byte i / 4, and back.
uint32_t spread(uint32_t bits) {
  bits = (bits | bits << 8) & 0x00ff00ffu;
  return (bits | bits << 4) & 0x0f0f0f0fu;
}

uint32_t gathered(uint32_t spread_bits) {
  spread_bits = (spread_bits | spread_bits >> 4) & 0x00ff00ffu;
  return (spread_bits | spread_bits >> 8) & 0xffffu;
}

__mmask64 first_bytes(int64_t count) {
  return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
}

// Bit i: whether byte i of `count`, of which the first 64 are read, is not 0.
uint64_t on_bits(const uint8_t* states, int64_t count) {
  const __m512i bytes = _mm512_maskz_loadu_epi8(first_bytes(count), states);
  return _mm512_test_epi8_mask(bytes, bytes);
}

}  // namespace
}  // namespace torch_init
