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
#include "moments/lanes_inl.h"
#include "moments/vector_ops_inl.h"

namespace torch_init {
namespace {

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
    part.sum_squares = total(lanes_.squares) * power_of_two(2 * Format::kScale);
    Code lowest = lanes_.lowest[0];
    Code highest = lanes_.highest[0];
    for (int i = 1; i < lanes_.kCodes; ++i) {
      if (lanes_.lowest[i] < lowest) lowest = lanes_.lowest[i];
      if (lanes_.highest[i] > highest) highest = lanes_.highest[i];
    }
    set_extremes<Format, kReading>(lowest, highest, &part);
    add_moments(moments, part);
  }

 private:
  using Codes = Vector<Code>;
  using Unsigned = Vector<typename UnsignedOf<Code>::Type>;

  // One vector of each row. Returns whether it went well: unless kCareful, the elements must be
  // finite, and nothing is changed if they are not.
  template <bool kCareful>
  bool read_part(const char* data, int64_t rows, uint64_t factor, int place, int part) {
    const Codes last = broadcast<Codes>(kMagnitude<Code>);
    Sums<Format> sums;
    Products products;
    Codes lowest = last;
    Codes highest = ~last;
    Codes zeros = {};
    Codes not_finite = {};
    Codes below_tiny = {};
    for (int64_t row = 0; row < rows; ++row) {
      // The processor's own prefetching ends at a page.
      __builtin_prefetch(data + row * kRowBytes + kPageBytes);
      Codes bits = load<Codes>(data + row * kRowBytes);
      const Codes magnitude = bits & kMagnitude<Code>;
      const Codes finite = magnitude < Format::kNotFinite;
      zeros = counted(zeros, magnitude == 0);
      if constexpr (kCareful) not_finite = counted(not_finite, ~finite);
      Codes order;
      if constexpr (kFingerprints) {
        products.add((Unsigned)bits, place + row * kRowWords);
        order = order_codes(bits);
        const Codes low = kCareful ? finite ? order : last : order;
        lowest = low < lowest ? low : lowest;
      } else {
        below_tiny = counted(below_tiny, magnitude < Format::kTiny);
        order = magnitude;
      }
      const Codes high = kCareful ? finite ? order : ~last : order;
      highest = high > highest ? high : highest;
      if constexpr (kCareful) bits &= finite;
      sums.add(bits);
    }
    const Codes beyond = kFingerprints ? (lowest <= ~Format::kNotFinite) : Codes{};
    if (!kCareful && any(beyond | (highest >= Format::kNotFinite))) return false;

    // From here on, what was read counts.
    sums.add_to(lanes_.sum + part / 4, lanes_.squares + part / 4);
    Code* const lowest_lanes = lanes_.lowest + part / static_cast<int>(sizeof(Code));
    Code* const highest_lanes = lanes_.highest + part / static_cast<int>(sizeof(Code));
    const Codes old_lowest = load<Codes>(lowest_lanes);
    const Codes old_highest = load<Codes>(highest_lanes);
    store(lowest_lanes, lowest < old_lowest ? lowest : old_lowest);
    store(highest_lanes, highest > old_highest ? highest : old_highest);
    add_to_lanes(lanes_.zeros + part / 4, folded(zeros));
    if (kCareful) add_to_lanes(lanes_.not_finite + part / 4, folded(not_finite));
    if constexpr (kFingerprints) {
      add_to_lanes(lanes_.fingerprint + part / 8, products.total() * factor);
    } else {
      add_to_lanes(lanes_.below_tiny + part / 4, folded(below_tiny));
      // Whether -highest or highest is at or beyond a limit.
      const bool at_limits = any((~highest <= low_) | (highest >= high_));
      if (kCareful || at_limits) count_at_limits(data, rows, part);
    }
    return true;
  }

  // Saturation is seen in some layers only: it has a pass of its own over a page in L1.
  void count_at_limits(const char* data, int64_t rows, int part) {
    Codes at_or_below = {};
    Codes at_or_above = {};
    for (int64_t row = 0; row < rows; ++row) {
      const Codes bits = load<Codes>(data + row * kRowBytes);
      const Codes is_number = (bits & kMagnitude<Code>) <= Format::kNotFinite;
      const Codes order = order_codes(bits);
      at_or_below = counted(at_or_below, (order <= low_) & is_number);
      at_or_above = counted(at_or_above, (order >= high_) & is_number);
    }
    add_to_lanes(lanes_.at_or_below + part / 4, folded(at_or_below));
    add_to_lanes(lanes_.at_or_above + part / 4, folded(at_or_above));
  }

  static Codes order_codes(Codes bits) {
    if constexpr (sizeof(Code) == 2 || sizeof(Code) == 4) {
      return bits ^ ((bits >> (8 * sizeof(Code) - 1)) & kMagnitude<Code>);
    } else {  // the instruction sets lack this shift
      return bits ^ ((bits < 0) & kMagnitude<Code>);
    }
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
