// SPDX-License-Identifier: Apache-2.0
//
// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random
// numbers: as easy as 1, 2, 3" (SC 2011). Ten rounds; fewer are not offered.
#pragma once

#include "portable/portable.h"

namespace torch_init {

constexpr uint32_t kPhiloxMultiplier0 = 0xD2511F53u;
constexpr uint32_t kPhiloxMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u;
constexpr uint32_t kPhiloxWeyl1 = 0xBB67AE85u;
constexpr int kPhiloxRounds = 10;
constexpr uint64_t kWordsPerBlock = 4;

struct PhiloxBlock {
  uint32_t word[4];
};

TI_HOST_DEVICE PhiloxBlock philox_round(const PhiloxBlock& counter, uint32_t key0, uint32_t key1) {
  const WideProduct product0 = multiply_wide(kPhiloxMultiplier0, counter.word[0]);
  const WideProduct product1 = multiply_wide(kPhiloxMultiplier1, counter.word[2]);
  return {{product1.high ^ counter.word[1] ^ key0, product1.low,
           product0.high ^ counter.word[3] ^ key1, product0.low}};
}

TI_HOST_DEVICE PhiloxBlock philox4x32_10(PhiloxBlock counter, uint64_t key) {
  uint32_t key0 = static_cast<uint32_t>(key);
  uint32_t key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    counter = philox_round(counter, key0, key1);
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return counter;
}

// The keys of all rounds, for those who have them at hand from one block to the next.
struct PhiloxKeys {
  uint32_t of_round[kPhiloxRounds][2];
};

TI_HOST_DEVICE PhiloxKeys philox_keys(uint64_t key) {
  PhiloxKeys keys;
  for (uint32_t round = 0; round < kPhiloxRounds; ++round) {
    keys.of_round[round][0] = static_cast<uint32_t>(key) + round * kPhiloxWeyl0;
    keys.of_round[round][1] = static_cast<uint32_t>(key >> 32) + round * kPhiloxWeyl1;
  }
  return keys;
}

TI_HOST_DEVICE PhiloxBlock philox4x32_10(PhiloxBlock counter, const PhiloxKeys& keys) {
  for (const auto& key : keys.of_round) counter = philox_round(counter, key[0], key[1]);
  return counter;
}

// Words 4 * block ... 4 * block + 3 of the stream named by `key`.
TI_HOST_DEVICE PhiloxBlock stream_block(uint64_t key, uint64_t block) {
  return philox4x32_10({{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0u, 0u}},
                       key);
}

TI_HOST_DEVICE uint32_t stream_word(uint64_t key, uint64_t index) {
  return stream_block(key, index / kWordsPerBlock).word[index % kWordsPerBlock];
}

}  // namespace torch_init
