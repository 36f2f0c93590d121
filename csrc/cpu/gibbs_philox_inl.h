// SPDX-License-Identifier: Apache-2.0
//
// Philox with a counter of its own in each 64-bit lane, for the vector tiers.
#pragma once

#include "random/philox.h"

namespace torch_init {

// counter[k] holds word k of each lane's counter in the lane's low half; what is returned likewise.
template <typename Simd>
TI_HOST_DEVICE void philox_lanes(uint64_t key, typename Simd::Words word[4]) {
  using Words = typename Simd::Words;
  const Words multiplier0 = Simd::broadcast(kPhiloxMultiplier0);
  const Words multiplier1 = Simd::broadcast(kPhiloxMultiplier1);
  uint32_t key0 = static_cast<uint32_t>(key);
  uint32_t key1 = static_cast<uint32_t>(key >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const Words product0 = Simd::multiply_low(multiplier0, word[0]);
    const Words product1 = Simd::multiply_low(multiplier1, word[2]);
    word[0] = Simd::exclusive_or(Simd::high_half(product1), word[1], Simd::broadcast(key0));
    word[2] = Simd::exclusive_or(Simd::high_half(product0), word[3], Simd::broadcast(key1));
    word[1] = product1;
    word[3] = product0;
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
}

}  // namespace torch_init
