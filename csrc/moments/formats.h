// SPDX-License-Identifier: Apache-2.0
//
// The floating-point formats as integers. In all of them the bits without the sign, the magnitude,
// grow with the absolute value, infinities and NaNs being the largest; so most of what is counted
// is counted without converting anything.
#pragma once

#include "moments/moments.h"
#include "portable/dtype.h"
#include "portable/portable.h"

namespace torch_init {

// kNotFinite: the smallest magnitude that is not finite. kTiny: the smallest that is normal.
//
// The formats narrower than float32 become one when moved to the top of 32 bits and shifted down
// by kDown, the sign staying: one whose exponent is kScale too low.
struct Float32Format {
  using Code = int32_t;
  static constexpr DType kDType = DType::kFloat32;
  static constexpr Code kNotFinite = 0x7f800000;
  static constexpr Code kTiny = 0x00800000;
  static constexpr int kDown = 0;
  static constexpr uint32_t kKept = 0xffffffffu;
  static constexpr int kScale = 0;
};

struct BFloat16Format {
  using Code = int16_t;
  static constexpr DType kDType = DType::kBFloat16;
  static constexpr Code kNotFinite = 0x7f80;
  static constexpr Code kTiny = 0x0080;
  static constexpr int kDown = 0;
  static constexpr uint32_t kKept = 0xffff0000u;
  static constexpr int kScale = 0;
};

struct Float16Format {
  using Code = int16_t;
  static constexpr DType kDType = DType::kFloat16;
  static constexpr Code kNotFinite = 0x7c00;
  static constexpr Code kTiny = 0x0400;
  static constexpr int kDown = 3;
  static constexpr uint32_t kKept = 0x8fffe000u;
  static constexpr int kScale = 112;
};

struct Float8E4M3FNFormat {
  using Code = int8_t;
  static constexpr DType kDType = DType::kFloat8E4M3FN;
  static constexpr Code kNotFinite = 0x7f;
  static constexpr Code kTiny = 0x08;
  static constexpr int kDown = 4;
  static constexpr uint32_t kKept = 0x87f00000u;
  static constexpr int kScale = 120;
};

struct Float8E5M2Format {
  using Code = int8_t;
  static constexpr DType kDType = DType::kFloat8E5M2;
  static constexpr Code kNotFinite = 0x7c;
  static constexpr Code kTiny = 0x04;
  static constexpr int kDown = 3;
  static constexpr uint32_t kKept = 0x8fe00000u;
  static constexpr int kScale = 112;
};

struct Float64Format {
  using Code = int64_t;
  static constexpr DType kDType = DType::kFloat64;
  static constexpr Code kNotFinite = 0x7ff0000000000000;
  static constexpr Code kTiny = 0x0010000000000000;
  static constexpr int kScale = 0;
};

template <typename Code>
struct UnsignedOf;
template <>
struct UnsignedOf<int8_t> {
  using Type = uint8_t;
};
template <>
struct UnsignedOf<int16_t> {
  using Type = uint16_t;
};
template <>
struct UnsignedOf<int32_t> {
  using Type = uint32_t;
};
template <>
struct UnsignedOf<int64_t> {
  using Type = uint64_t;
};

template <typename Code>
constexpr Code kMagnitude = static_cast<Code>((uint64_t{1} << (8 * sizeof(Code) - 1)) - 1);

// Whose order, as a signed integer, is that of the values; -0 comes just before 0. Its own inverse.
template <typename Code>
TI_HOST_DEVICE Code order_code(Code bits) {
  return bits < 0 ? static_cast<Code>(bits ^ kMagnitude<Code>) : bits;
}

// The value of bits, kScale powers of two too low: sums are scaled once, at their end.
template <typename Format>
TI_HOST_DEVICE double unscaled(typename Format::Code bits) {
  if constexpr (sizeof bits == 8) {
    return bits_double(static_cast<uint64_t>(bits));
  } else {
    const uint32_t top = static_cast<uint32_t>(bits) << (32 - 8 * sizeof bits);
    const uint32_t moved = static_cast<uint32_t>(static_cast<int32_t>(top) >> Format::kDown);
    return static_cast<double>(bits_float(moved & Format::kKept));
  }
}

// Sets the extremes of `moments` from the order codes of a format, unless there are none.
template <typename Format, Reading kReading>
TI_HOST_DEVICE void set_extremes(typename Format::Code lowest, typename Format::Code highest,
                                 Moments* moments) {
  const auto convert = [](typename Format::Code order) {
    const double value = unscaled<Format>(order_code(order)) * power_of_two(Format::kScale);
    return order_code(static_cast<int64_t>(double_bits(value)));
  };
  if (highest == static_cast<typename Format::Code>(~kMagnitude<typename Format::Code>)) return;
  if (kReading == Reading::kFingerprint) moments->lowest = convert(lowest);
  moments->highest = convert(highest);
}

// Calls function(Format()) with the format of a dtype that activations have: not of 8 bits.
template <typename Function>
TI_HOST_DEVICE void with_flow_format(DType dtype, const Function& function) {
  switch (dtype) {
    case DType::kFloat64:
      return function(Float64Format());
    case DType::kBFloat16:
      return function(BFloat16Format());
    case DType::kFloat16:
      return function(Float16Format());
    default:
      return function(Float32Format());
  }
}

// Calls function(Format()) with the format of a floating-point dtype.
template <typename Function>
TI_HOST_DEVICE void with_format(DType dtype, const Function& function) {
  switch (dtype) {
    case DType::kFloat8E4M3FN:
      return function(Float8E4M3FNFormat());
    case DType::kFloat8E5M2:
      return function(Float8E5M2Format());
    default:
      return with_flow_format(dtype, function);
  }
}

}  // namespace torch_init
