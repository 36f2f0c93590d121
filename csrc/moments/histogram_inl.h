// SPDX-License-Identifier: Apache-2.0
//
// Counting elements by exponent.
#pragma once

#include "moments/kernels.h"

namespace torch_init {
namespace {

// Several counters for each exponent, used in turn: neighbours often have the same exponent, and
// one counter would have to wait for its own last store.
constexpr int kTurns = 4;
constexpr int64_t kStagedExponents = 2048;

template <typename Format>
void count_exponents(const char* data, int64_t count, ExponentCounts* counts) {
  using Code = typename Format::Code;
  uint32_t turn[kTurns][kExponents] = {};
  uint8_t exponent[kStagedExponents];
  while (count > 0) {
    const int64_t n = count < kStagedExponents ? count : kStagedExponents;
    for (int64_t i = 0; i < n; ++i) {
      Code bits;
      memcpy(&bits, data + i * static_cast<int64_t>(sizeof bits), sizeof bits);
      exponent[i] = static_cast<uint8_t>(exponent_of<Format>(bits));
    }
    int64_t i = 0;
    for (; i + kTurns <= n; i += kTurns) {
      for (int t = 0; t < kTurns; ++t) ++turn[t][exponent[i + t]];
    }
    for (; i < n; ++i) ++turn[0][exponent[i]];
    data += n * static_cast<int64_t>(sizeof(Code));
    count -= n;
  }
  for (int e = 0; e < kExponents; ++e) {
    for (int t = 0; t < kTurns; ++t) counts->of[e] += turn[t][e];
  }
}

}  // namespace
}  // namespace torch_init
