// SPDX-License-Identifier: Apache-2.0
//
// Reading finite elements of 16 or 32 bits on a GPU, a 32-bit word at a time: what is compared or
// counted is so for all of a word's elements at once, its lanes. Whether all were finite is known
// at the end. Elements of 8 bits become the upper halves of 16.
#pragma once

#include "moments/formats.h"
#include "moments/moments.h"

namespace torch_init {

// Integers of kBytes bytes side by side in a word.
template <int kBytes>
struct WordLanes {
  static constexpr int kBits = 8 * kBytes;
  static constexpr int kCount = 4 / kBytes;

  TI_HOST_DEVICE_MEMBER static constexpr uint32_t all(int32_t x) {
    return kBytes == 2 ? (static_cast<uint32_t>(x) & 0xffffu) * 0x10001u : static_cast<uint32_t>(x);
  }

  TI_HOST_DEVICE_MEMBER static int32_t lane(uint32_t word, int i) {
    return static_cast<int32_t>(word << (32 - kBits * (i + 1))) >> (32 - kBits);
  }

  TI_HOST_DEVICE_MEMBER static uint32_t minimum(uint32_t a, uint32_t b) {
#if defined(__CUDA_ARCH__)
    if constexpr (kBytes == 2) return __vmins2(a, b);
#endif
    return for_each([&](int i) { return lane(a, i) < lane(b, i) ? lane(a, i) : lane(b, i); });
  }

  TI_HOST_DEVICE_MEMBER static uint32_t maximum(uint32_t a, uint32_t b) {
#if defined(__CUDA_ARCH__)
    if constexpr (kBytes == 2) return __vmaxs2(a, b);
#endif
    return for_each([&](int i) { return lane(a, i) > lane(b, i) ? lane(a, i) : lane(b, i); });
  }

  // 1 where a lane, none of them negative, is at least `least`, which is positive; else 0.
  TI_HOST_DEVICE_MEMBER static uint32_t at_least(uint32_t lanes, int32_t least) {
#if defined(__CUDA_ARCH__)
    // max(min(lane - (least - 1), 1), 0), one instruction since Hopper.
    if constexpr (kBytes == 2) return __viaddmin_s16x2_relu(lanes, all(1 - least), all(1));
    return static_cast<uint32_t>(__viaddmin_s32_relu(static_cast<int>(lanes), 1 - least, 1));
#else
    return for_each([&](int i) { return lane(lanes, i) >= least ? 1 : 0; });
#endif
  }

  // order_code of each lane.
  TI_HOST_DEVICE_MEMBER static uint32_t order_codes(uint32_t word) {
    constexpr int32_t kMost = static_cast<int32_t>((uint32_t{1} << (kBits - 1)) - 1);
    uint32_t negative;  // -1 or 0
#if defined(__CUDA_ARCH__)
    if constexpr (kBytes == 2) {
      asm("prmt.b32 %0, %1, 0, 0xbb99;" : "=r"(negative) : "r"(word));
      return word ^ (negative & all(kMost));
    }
#endif
    negative = for_each([&](int i) { return lane(word, i) < 0 ? -1 : 0; });
    return word ^ (negative & all(kMost));
  }

 private:
  template <typename Function>
  TI_HOST_DEVICE_MEMBER static uint32_t for_each(const Function& function) {
    uint32_t word = 0;
    for (int i = 0; i < kCount; ++i) {
      const uint32_t mask = kBits == 32 ? ~0u : (1u << kBits % 32) - 1;
      word |= (static_cast<uint32_t>(function(i)) & mask) << (kBits * i % 32);
    }
    return word;
  }
};

// A format of 8 bits with 8 zeros below.
template <typename Narrow>
struct UpperByteFormat {
  using Code = int16_t;
  static constexpr DType kDType = Narrow::kDType;
  static constexpr Code kNotFinite = Narrow::kNotFinite << 8;
  static constexpr Code kTiny = Narrow::kTiny << 8;
  static constexpr int kDown = Narrow::kDown;
  static constexpr uint32_t kKept = Narrow::kKept;
  static constexpr int kScale = Narrow::kScale;
};

// Bytes 2 i and 2 i + 1 of a word, each above a byte of zeros.
TI_HOST_DEVICE uint32_t upper_bytes(uint32_t word, int i) {
#if defined(__CUDA_ARCH__)
  return __byte_perm(word, 0, i == 0 ? 0x1404 : 0x3424);
#else
  const uint32_t pair = word >> (16 * i);
  return (pair & 0xffu) << 8 | (pair & 0xff00u) << 16;
#endif
}

template <typename Format, bool kIsNarrow = sizeof(typename Format::Code) == 1>
struct WordFormatOf {
  using Type = Format;
};
template <typename Format>
struct WordFormatOf<Format, true> {
  using Type = UpperByteFormat<Format>;
};

// sum + x * x, where x is a float, so that the product is exact.
TI_HOST_DEVICE double add_exact_square(double sum, double x) {
#if defined(__CUDA_ARCH__)
  return __fma_rn(x, x, sum);
#else
  return sum + x * x;
#endif
}

template <typename ElementFormat, Reading kReading>
class WordTally {
 public:
  using Format = typename WordFormatOf<ElementFormat>::Type;
  using Code = typename Format::Code;
  // Counters have the size of an element: fewer than 2^15 words.
  static constexpr bool kReads = sizeof(Code) <= 4;

  TI_HOST_DEVICE_MEMBER void add(uint32_t word) {
    if constexpr (sizeof(typename ElementFormat::Code) == 1) {
      for (int i = 0; i < 2; ++i) add_lanes(upper_bytes(word, i));
    } else {
      add_lanes(word);
    }
  }

  // If not, what was added cannot be used.
  TI_HOST_DEVICE_MEMBER bool all_finite() const {
    return highest() < Format::kNotFinite && lowest() > static_cast<Code>(~Format::kNotFinite);
  }

  // Whether an element may be at or beyond a limit; in flow mode.
  TI_HOST_DEVICE_MEMBER bool reaches(int64_t low, int64_t high) const {
    return ~int64_t{highest()} <= low || highest() >= high;
  }

  // Adds itself, the tally of `count` elements.
  TI_HOST_DEVICE_MEMBER void add_to(int64_t count, Moments* moments) const {
    Moments part = no_moments();
    part.count = count;
    part.zeros = count;
    for (int i = 0; i < Lanes::kCount; ++i) {
      part.zeros -= Lanes::lane(nonzero_, i);
      if (kReading != Reading::kFlow) continue;
      part.subnormals += Lanes::lane(nonzero_, i) - Lanes::lane(normal_, i);
    }
    part.sum = sum_ * power_of_two(kTooLow);
    part.sum_squares = sum_squares_ * power_of_two(2 * kTooLow);
    set_extremes<Format, kReading>(lowest(), highest(), &part);
    add_moments(moments, part);
  }

 private:
#if defined(__CUDA_ARCH__)  // the upper half of a float16 is a float8_e5m2
  static constexpr bool kHasConversion =
      Format::kDType == DType::kFloat16 || Format::kDType == DType::kFloat8E5M2;
#else
  static constexpr bool kHasConversion = false;
#endif
  static constexpr int kTooLow = kHasConversion ? 0 : Format::kScale;  // values, powers of two
  using Lanes = WordLanes<kReads ? static_cast<int>(sizeof(Code)) : 4>;

  TI_HOST_DEVICE_MEMBER void add_lanes(uint32_t word) {
    const uint32_t magnitudes = word & Lanes::all(kMagnitude<Code>);
    nonzero_ += Lanes::at_least(magnitudes, 1);
    uint32_t order = magnitudes;
    if constexpr (kReading == Reading::kFlow) {
      normal_ += Lanes::at_least(magnitudes, Format::kTiny);
    } else {
      order = Lanes::order_codes(word);
      lowest_ = Lanes::minimum(lowest_, order);
    }
    highest_ = Lanes::maximum(highest_, order);
    for (int i = 0; i < Lanes::kCount; ++i) {
      const double x = value(static_cast<Code>(word >> (Lanes::kBits * i % 32)));
      sum_ += x;
      sum_squares_ = add_exact_square(sum_squares_, x);
    }
  }

  TI_HOST_DEVICE_MEMBER static double value(Code bits) {
#if defined(__CUDA_ARCH__)
    if constexpr (kHasConversion) {
      float x;
      asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
      return static_cast<double>(x);
    }
#endif
    return unscaled<Format>(bits);
  }

  TI_HOST_DEVICE_MEMBER Code lowest() const {
    int32_t code = Lanes::lane(lowest_, 0);
    for (int i = 1; i < Lanes::kCount; ++i) {
      if (Lanes::lane(lowest_, i) < code) code = Lanes::lane(lowest_, i);
    }
    return static_cast<Code>(code);
  }

  TI_HOST_DEVICE_MEMBER Code highest() const {
    int32_t code = Lanes::lane(highest_, 0);
    for (int i = 1; i < Lanes::kCount; ++i) {
      if (Lanes::lane(highest_, i) > code) code = Lanes::lane(highest_, i);
    }
    return static_cast<Code>(code);
  }

  double sum_ = 0.0;
  double sum_squares_ = 0.0;
  uint32_t nonzero_ = 0;
  uint32_t normal_ = 0;
  uint32_t lowest_ = Lanes::all(static_cast<int32_t>(kMagnitude<Code>));
  uint32_t highest_ = ~Lanes::all(static_cast<int32_t>(kMagnitude<Code>));
};

}  // namespace torch_init
