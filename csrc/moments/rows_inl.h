// SPDX-License-Identifier: Apache-2.0
//
// Counting and adding up elements that lie side by side.
//
// Memory is read in rows of 64 bytes, 16 words, at most a page of the fingerprint's image at a
// time. Each of the 16 words of a row has its own lane, with its own sums; a tier whose vectors are
// shorter goes over a page several times, for some of the lanes each time, while it is in L1. So
// every tier adds the same numbers in the same order.
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

// What is carried from page to page, lane by lane.
template <typename Code>
struct alignas(64) Lanes {
  static constexpr int kCodes = kRowBytes / sizeof(Code);
  double sum[kRowWords];
  double sum_squares[kRowWords];
  Code lowest[kCodes];
  Code highest[kCodes];
  uint64_t fingerprint[kRowWords / 2];
  uint32_t zeros[kRowWords];
  uint32_t not_finite[kRowWords];
  uint32_t below_tiny[kRowWords];  // zeros included
  uint32_t at_or_below[kRowWords];
  uint32_t at_or_above[kRowWords];
};

template <typename Format, Reading kReading>
class RowReader {
 public:
  using Code = typename Format::Code;
  static constexpr bool kFingerprints = kReading == Reading::kFingerprint;
  static constexpr int kRowElements = kRowBytes / sizeof(Code);

  explicit RowReader(const Limits& limits)
      : low_(static_cast<Code>(limits.low)), high_(static_cast<Code>(limits.high)) {
    memset(&lanes_, 0, sizeof lanes_);
    for (int i = 0; i < lanes_.kCodes; ++i) {
      lanes_.lowest[i] = kMagnitude<Code>;
      lanes_.highest[i] = static_cast<Code>(~kMagnitude<Code>);
    }
  }

  // `rows` rows of one page, whose first word has place `place`.
  void read(const char* data, int64_t rows, uint64_t page, int place) {
    const uint64_t factor = kFingerprints ? page_factor(page) : 0;
    for (int part = 0; part < kRowBytes; part += TI_VECTOR_BYTES) {
      // A page that holds something that is not finite is rare, and read again with care.
      if (!read_part<false>(data + part, rows, factor, place + part / 4, part)) {
        read_part<true>(data + part, rows, factor, place + part / 4, part);
      }
    }
  }

  void add_to(int64_t rows, Moments* moments) const {
    Moments part = no_moments();
    part.count = rows * kRowElements;
    part.zeros = total(lanes_.zeros);
    part.not_finite = total(lanes_.not_finite);
    if (!kFingerprints) {
      part.subnormals = total(lanes_.below_tiny) - part.zeros;
      part.at_or_below = total(lanes_.at_or_below);
      part.at_or_above = total(lanes_.at_or_above);
    }
    for (const uint64_t lane : lanes_.fingerprint) part.fingerprint += lane;
    part.sum = total(lanes_.sum) * power_of_two(Format::kScale);
    part.sum_squares = total(lanes_.sum_squares) * power_of_two(2 * Format::kScale);
    Code lowest = lanes_.lowest[0];
    Code highest = lanes_.highest[0];
    for (int i = 1; i < lanes_.kCodes; ++i) {
      if (lanes_.lowest[i] < lowest) lowest = lanes_.lowest[i];
      if (lanes_.highest[i] > highest) highest = lanes_.highest[i];
    }
    set_extremes<Format>(lowest, highest, &part);
    add_moments(moments, part);
  }

 private:
  using Codes = Vector<Code>;
  using Unsigned = Vector<typename UnsignedOf<Code>::Type>;
  static constexpr int kPerWord = sizeof(Code) < 4 ? 4 / sizeof(Code) : 1;
  static constexpr int kHalves = sizeof(Code) < 8 ? 2 : 1;

  // One vector of each row. Returns whether it went well: unless kCareful, the elements must be
  // finite, and nothing is changed if they are not.
  template <bool kCareful>
  bool read_part(const char* data, int64_t rows, uint64_t factor, int place, int part) {
    Doubles sum[2] = {};
    Doubles sum_squares[2] = {};
    Codes lowest = broadcast<Codes>(kMagnitude<Code>);
    Codes highest = ~lowest;
    Codes zeros = {};
    Codes not_finite = {};
    Codes below_tiny = {};
    Codes at_or_below = {};
    Codes at_or_above = {};
    Wides products = {};
    Words high_products = {};
    for (int64_t row = 0; row < rows; ++row) {
      Codes bits = load<Codes>(data + row * kRowBytes);
      const Codes magnitude = bits & kMagnitude<Code>;
      zeros -= magnitude == 0;
      if constexpr (kFingerprints) {
        add_products(bits, place + row * kRowWords, &products, &high_products);
      }
      const Codes order = order_codes(bits);
      Codes for_lowest = order;
      Codes for_highest = order;
      Codes is_number = {};
      if constexpr (kCareful) {
        const Codes finite = magnitude < Format::kNotFinite;
        not_finite -= ~finite;
        for_lowest = finite ? order : broadcast<Codes>(kMagnitude<Code>);
        for_highest = finite ? order : ~broadcast<Codes>(kMagnitude<Code>);
        is_number = magnitude <= Format::kNotFinite;
        bits &= finite;
      }
      if constexpr (!kFingerprints) {
        below_tiny -= magnitude < Format::kTiny;
        if constexpr (kCareful) {
          at_or_below -= (order <= low_) & is_number;
          at_or_above -= (order >= high_) & is_number;
        } else {
          at_or_below -= order <= low_;
          at_or_above -= order >= high_;
        }
      }
      lowest = for_lowest < lowest ? for_lowest : lowest;
      highest = for_highest > highest ? for_highest : highest;
      add_values(bits, sum, sum_squares);
    }
    if (!kCareful && any((lowest <= ~Format::kNotFinite) | (highest >= Format::kNotFinite))) {
      return false;
    }
    constexpr int kHalf = TI_VECTOR_BYTES / 8;
    double* sums = lanes_.sum + part / 4;
    double* squares = lanes_.sum_squares + part / 4;
    for (int half = 0; half < 2; ++half) {
      add_to_lanes(sums + half * kHalf, sum[half]);
      add_to_lanes(squares + half * kHalf, sum_squares[half]);
    }
    Code* const at_lowest = lanes_.lowest + part / static_cast<int>(sizeof(Code));
    Code* const at_highest = lanes_.highest + part / static_cast<int>(sizeof(Code));
    const Codes old_lowest = load<Codes>(at_lowest);
    const Codes old_highest = load<Codes>(at_highest);
    store(at_lowest, lowest < old_lowest ? lowest : old_lowest);
    store(at_highest, highest > old_highest ? highest : old_highest);
    add_to_lanes(lanes_.zeros + part / 4, folded(zeros));
    if (kCareful) add_to_lanes(lanes_.not_finite + part / 4, folded(not_finite));
    if constexpr (kFingerprints) {
      const Wides high = (Wides)high_products;
      const Wides term = products + (high << 32) + (high & ~uint64_t{0xffffffffu});
      add_to_lanes(lanes_.fingerprint + part / 8, term * factor);
    } else {
      add_to_lanes(lanes_.below_tiny + part / 4, folded(below_tiny));
      add_to_lanes(lanes_.at_or_below + part / 4, folded(at_or_below));
      add_to_lanes(lanes_.at_or_above + part / 4, folded(at_or_above));
    }
    return true;
  }

  // Words times place factors modulo 2^64: the products with the factors' low halves, whole, and
  // the low halves of those with the high halves, which count 2^32 times.
  static void add_products(Codes bits, int64_t place, Wides* products, Words* high_products) {
    const Words image = (Words)image_codes((Unsigned)bits);
    const Words low = load<Words>(kPlaceFactors.low + place);
    const Words high = load<Words>(kPlaceFactors.high + place);
    *products += multiply_low_halves((Wides)image, (Wides)low);
    *products += multiply_low_halves((Wides)image >> 32, (Wides)low >> 32);
    *high_products += image * high;
  }

  static Unsigned image_codes(Unsigned bits) {
    return ~((bits << 1) | (bits >> (8 * sizeof(Code) - 1)));
  }

  static Codes order_codes(Codes bits) {
    if constexpr (sizeof(Code) == 2 || sizeof(Code) == 4) {
      return bits ^ ((bits >> (8 * sizeof(Code) - 1)) & kMagnitude<Code>);
    } else {  // the instruction sets lack this shift
      return bits ^ ((bits < 0) & kMagnitude<Code>);
    }
  }

  static void add_values(Codes bits, Doubles sum[2], Doubles sum_squares[2]) {
    for (int i = 0; i < kPerWord; ++i) {
      for (int half = 0; half < kHalves; ++half) {
        const Doubles value = values<Format>(bits, i, half);
        sum[half] += value;
        sum_squares[half] = add_square<Format>(sum_squares[half], value);
      }
    }
  }

  static bool any(Codes mask) {
    const Wides wide = (Wides)mask;
    uint64_t found = 0;
    for (int i = 0; i < TI_VECTOR_BYTES / 8; ++i) found |= wide[i];
    return found != 0;
  }

  template <typename Element, typename Values>
  static void add_to_lanes(Element* lanes, Values values) {
    store(lanes, load<Values>(lanes) + values);
  }

  // Counts in lanes of Code, none negative, added up in lanes of 32 bits.
  static Words folded(Codes counts) {
    Words words = (Words)counts;
    if constexpr (sizeof(Code) == 1) words = (words & 0x00ff00ffu) + ((words >> 8) & 0x00ff00ffu);
    if constexpr (sizeof(Code) <= 2) words = (words & 0xffffu) + (words >> 16);
    return words;
  }

  template <typename Element>
  static auto total(const Element (&lanes)[kRowWords]) {
    Element part[kRowWords];
    memcpy(part, lanes, sizeof part);
    for (int width = kRowWords / 2; width > 0; width /= 2) {
      for (int i = 0; i < width; ++i) part[i] += part[i + width];
    }
    return part[0];
  }

  Lanes<Code> lanes_;
  Code low_;
  Code high_;
};

template <typename Format, Reading kReading>
void read_span(const char* data, uint64_t index, int64_t count, const Limits& limits,
               Moments* moments) {
  using Code = typename Format::Code;
  using Reader = RowReader<Format, kReading>;
  constexpr int64_t kPageElements = kPageBytes / sizeof(Code);
  constexpr int64_t kWordElements = sizeof(Code) < 4 ? 4 / sizeof(Code) : 1;
  const auto read_elements = [&](int64_t n) {
    Tally<Format, kReading> tally;
    for (int64_t i = 0; i < n; ++i) {
      Code bits;
      memcpy(&bits, data + i * static_cast<int64_t>(sizeof bits), sizeof bits);
      tally.add(bits, limits);
      if constexpr (kReading == Reading::kFingerprint) {
        const auto code = static_cast<typename UnsignedOf<Code>::Type>(bits);
        tally.add_fingerprint(fingerprint_term(index + static_cast<uint64_t>(i), code));
      }
    }
    tally.add_to(n, moments);
    data += n * static_cast<int64_t>(sizeof(Code));
    index += static_cast<uint64_t>(n);
    count -= n;
  };
  const int64_t after_word = static_cast<int64_t>(index % kWordElements);
  if (after_word != 0) {
    const int64_t to_word = kWordElements - after_word;
    read_elements(to_word < count ? to_word : count);
  }
  if (count >= Reader::kRowElements) {
    Reader reader(limits);
    int64_t all_rows = 0;
    while (count >= Reader::kRowElements) {
      const int64_t at = static_cast<int64_t>(index % kPageElements);
      const int64_t in_page = count < kPageElements - at ? count : kPageElements - at;
      const int64_t rows = in_page / Reader::kRowElements;
      reader.read(data, rows, index / kPageElements,
                  static_cast<int>(at * static_cast<int64_t>(sizeof(Code)) / 4));
      data += rows * kRowBytes;
      index += static_cast<uint64_t>(rows * Reader::kRowElements);
      count -= rows * Reader::kRowElements;
      all_rows += rows;
      // A page that begins within a row ends within one.
      const int64_t rest = in_page % Reader::kRowElements;
      if (rest != 0) read_elements(rest);
    }
    reader.add_to(all_rows, moments);
  }
  if (count > 0) read_elements(count);
}

}  // namespace
}  // namespace torch_init
