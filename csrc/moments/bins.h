// SPDX-License-Identifier: Apache-2.0
//
// The histogram of absolute values by octave.
#pragma once

#include "moments/formats.h"

namespace torch_init {

// Bin i counts 2^(i - 40) <= |x| < 2^(i - 39), the ends what lies beyond.
constexpr int kBins = 64;
constexpr int kLowestBinExponent = -40;

// The exponent of a float32 of the element's size: e for 2^(e - 127) <= |x| < 2^(e - 126), also
// beyond what a float32 could hold. Zeros and what is not finite have some exponent too, zeros the
// smallest.
template <typename Format>
TI_HOST_DEVICE int32_t exponent_of(typename Format::Code bits) {
  using Code = typename Format::Code;
  const Code magnitude = static_cast<Code>(bits & kMagnitude<Code>);
  if constexpr (sizeof bits == 8) {
    return static_cast<int32_t>(magnitude >> 52) - (1023 - 127);
  } else {
    const uint32_t top = static_cast<uint32_t>(magnitude) << (32 - 8 * sizeof bits);
    const float scale = bits_float(static_cast<uint32_t>(127 + Format::kScale) << 23);
    return static_cast<int32_t>(float_bits(bits_float(top >> Format::kDown) * scale) >> 23);
  }
}

// The bin of an exponent once divided by 2^shift.
TI_HOST_DEVICE int bin_of_exponent(int exponent, int shift) {
  const int bin = exponent - 127 - kLowestBinExponent - shift;
  return bin < 0 ? 0 : bin >= kBins ? kBins - 1 : bin;
}

// round(log2(scale)) of a positive, finite number.
TI_HOST_DEVICE int rounded_log2(float scale) {
  const uint32_t bits = float_bits(scale);
  constexpr uint32_t kAboveRootOfTwo = 0x3504f4;  // mantissa of the first float32 above 2^0.5
  return static_cast<int>(bits >> 23) - 127 + ((bits & 0x7fffffu) >= kAboveRootOfTwo);
}

// Elements counted in pairs: of[...][a + 64 b] pairs had one element in bin a, one in bin b.
// Several counters of each kind, used in turn, as one would have to wait for its own last store.
constexpr int kTurns = 4;

struct PairCounts {
  uint32_t of[kTurns][kBins * kBins];
};

}  // namespace torch_init
