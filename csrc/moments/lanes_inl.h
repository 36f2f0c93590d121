// SPDX-License-Identifier: Apache-2.0
//
// The sums of a row's words, each in a lane of its own, from page to page (rows_inl.h).
#pragma once

#include "moments/kernels.h"
#include "moments/vector_ops_inl.h"

namespace torch_init {
namespace {

constexpr int kRowBytes = 64;
constexpr int kRowWords = 16;

struct PlaceFactors {
  uint32_t low[kPageWords];
  uint32_t high[kPageWords];
};

constexpr PlaceFactors make_place_factors() {
  PlaceFactors factors{};
  for (uint32_t i = 0; i < kPageWords; ++i) {
    const uint64_t factor = place_factor(i);
    factors.low[i] = static_cast<uint32_t>(factor);
    factors.high[i] = static_cast<uint32_t>(factor >> 32);
  }
  return factors;
}

alignas(64) constexpr PlaceFactors kPlaceFactors = make_place_factors();

// The sums of one vector of each row, lane by lane. Each place in a word has sums of its own, or
// an addition would have to wait for the last one.
template <typename Format>
class Sums {
 public:
  template <typename Codes>
  void add(Codes bits) {
    for (int i = 0; i < kPlaces; ++i) {
      for (int half = 0; half < kHalves; ++half) {
        const Doubles value = values<Format>(bits, i, half);
        sum_[i][half] += value;
        squares_[i][half] = add_square<Format>(squares_[i][half], value);
      }
    }
  }

  void add_to(double* sum, double* squares) const {
    constexpr int kLanes = TI_VECTOR_BYTES / 8;
    for (int half = 0; half < kHalves; ++half) {
      Doubles total = sum_[0][half];
      Doubles total_squares = squares_[0][half];
      for (int i = 1; i < kPlaces; ++i) {
        total += sum_[i][half];
        total_squares += squares_[i][half];
      }
      store(sum + half * kLanes, load<Doubles>(sum + half * kLanes) + total);
      store(squares + half * kLanes, load<Doubles>(squares + half * kLanes) + total_squares);
    }
  }

 private:
  static constexpr int kSize = sizeof(typename Format::Code);
  static constexpr int kPlaces = kSize < 4 ? 4 / kSize : 1;
  static constexpr int kHalves = kSize < 8 ? 2 : 1;

  Doubles sum_[kPlaces][kHalves] = {};
  Doubles squares_[kPlaces][kHalves] = {};
};

// Words of the image times factors of their places, modulo 2^64.
struct Products {
  template <typename Unsigned>
  void add(Unsigned bits, int64_t place) {
    constexpr int kBits = 8 * sizeof bits[0];
    const Words image = (Words) ~((bits << 1) | (bits >> (kBits - 1)));
    const Words low_factor = load<Words>(kPlaceFactors.low + place);
    const Words high_factor = load<Words>(kPlaceFactors.high + place);
    whole += multiply_low_halves((Wides)image, (Wides)low_factor);
    whole += multiply_low_halves((Wides)image >> 32, (Wides)low_factor >> 32);
    high += image * high_factor;
  }
  Wides total() const {
    const Wides wide = (Wides)high;
    return whole + (wide << 32) + (wide & ~uint64_t{0xffffffffu});
  }

  Wides whole = {};
  Words high = {};  // low halves of the products with the factors' high halves
};

// What is carried from page to page, lane by lane.
template <typename Code>
struct alignas(64) Lanes {
  static constexpr int kCodes = kRowBytes / sizeof(Code);
  double sum[kRowWords];
  double squares[kRowWords];
  Code lowest[kCodes];
  Code highest[kCodes];
  uint64_t fingerprint[kRowWords / 2];
  uint32_t zeros[kRowWords];
  uint32_t not_finite[kRowWords];
  uint32_t below_tiny[kRowWords];  // zeros included
  uint32_t at_or_below[kRowWords];
  uint32_t at_or_above[kRowWords];
};

}  // namespace
}  // namespace torch_init
