// SPDX-License-Identifier: Apache-2.0
//
// Counting elements by exponent, two at a time: one counter for each pair of bins.
#pragma once

#include "moments/bins.h"
#include "moments/kernels.h"
#include "moments/vector_ops_inl.h"

namespace torch_init {
namespace {

template <typename Format>
class BinReader {
 public:
  using Code = typename Format::Code;
  using Codes = Vector<Code>;
  static constexpr int kPairs = TI_VECTOR_BYTES / sizeof(Code);  // of two vectors

  explicit BinReader(int shift) : offset_(-127 - kLowestBinExponent - shift) {}

  // The pairs' counters, one vector's elements with the other's.
  Codes pairs(Codes first, Codes second) const { return bins(first) | (bins(second) << 6); }

 private:
  // bin_of_exponent(exponent_of(...)) of each element.
  Codes bins(Codes bits) const {
    const Codes magnitude = bits & kMagnitude<Code>;
    if constexpr (sizeof(Code) == 2 && Format::kScale != 0) {
      // Subnormals have exponents of their own: through float32, which has them as normal numbers.
      const Words words = (Words)magnitude;
      return (Codes)(halves(words << 16) | (halves(words & 0xffff0000u) << 16));
    } else {
      constexpr int kMantissa = sizeof(Code) == 8 ? 52 : sizeof(Code) == 4 ? 23 : 7;
      constexpr int kBias = sizeof(Code) == 8 ? 1023 - 127 : 0;
      return inside((magnitude >> kMantissa) + static_cast<Code>(offset_ - kBias));
    }
  }

  Words halves(Words top) const {
    const float scale = bits_float(static_cast<uint32_t>(127 + Format::kScale) << 23);
    const Floats value = (Floats)(top >> Format::kDown) * scale;
    return (Words)inside((Vector<int32_t>)((Words)value >> 23) + offset_);
  }

  template <typename Bins>
  static Bins inside(Bins bin) {
    bin = bin < 0 ? Bins{} : bin;
    const Bins last = Bins{} + (kBins - 1);
    return bin > last ? last : bin;
  }

  int offset_;
};

template <typename Format>
void count_bins(const char* data, int64_t count, int shift, PairCounts* pairs, int64_t* bins) {
  using Reader = BinReader<Format>;
  using Code = typename Format::Code;
  using Codes = typename Reader::Codes;
  const Reader reader(shift);
  constexpr int kStaged = 32;  // vectors: what was stored just now could not be read at once
  typename UnsignedOf<Code>::Type pair[kStaged * Reader::kPairs];
  while (pairs != nullptr && count >= 2 * Reader::kPairs) {
    const int64_t possible = count / (2 * Reader::kPairs);
    const int vectors = static_cast<int>(possible < kStaged ? possible : kStaged);
    for (int v = 0; v < vectors; ++v) {
      const char* const at = data + 2 * v * TI_VECTOR_BYTES;
      store(pair + v * Reader::kPairs,
            reader.pairs(load<Codes>(at), load<Codes>(at + TI_VECTOR_BYTES)));
    }
    for (int i = 0; i < vectors * Reader::kPairs; i += 2) {
      ++pairs->of[0][pair[i]];
      ++pairs->of[1][pair[i + 1]];
    }
    data += 2 * vectors * TI_VECTOR_BYTES;
    count -= 2 * vectors * Reader::kPairs;
  }
  for (; count > 0; --count) {
    Code bits;
    memcpy(&bits, data, sizeof bits);
    ++bins[bin_of_exponent(exponent_of<Format>(bits), shift)];
    data += sizeof bits;
  }
}

}  // namespace
}  // namespace torch_init
