// SPDX-License-Identifier: Apache-2.0
//
// Round-to-nearest-even from float32 to the narrower formats, in integer arithmetic: hardware
// conversions flush subnormals on some machines and not on others.
#pragma once

#include "distributions/distribution.h"
#include "portable/portable.h"

namespace torch_init {

// A binary format with fewer exponent and mantissa bits than float32.
struct SmallFloat {
  int exponent_bits;
  int mantissa_bits;
  uint32_t overflow;  // code (without sign) of what is too large
  uint32_t largest;   // code of the largest finite value
  uint32_t not_a_number;
};

constexpr SmallFloat kFormatFloat16 = {5, 10, 0x7c00, 0x7bff, 0x7e00};
constexpr SmallFloat kFormatFloat8E4M3FN = {4, 3, 0x7e, 0x7e, 0x7f};  // saturates: no infinity
constexpr SmallFloat kFormatFloat8E5M2 = {5, 2, 0x7c, 0x7b, 0x7f};

TI_HOST_DEVICE uint32_t round_to_small_float(float value, SmallFloat format) {
  const int width = format.exponent_bits + format.mantissa_bits;
  const uint32_t bits = float_bits(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t sign = (bits >> 31) << width;
  if (magnitude > 0x7f800000u) return sign | format.not_a_number;

  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  const int lowest_exponent = 1 - bias;  // of a normal number
  const int dropped = 23 - format.mantissa_bits;
  uint32_t code;
  if (magnitude >= static_cast<uint32_t>(lowest_exponent + 127) << 23) {
    const uint32_t half_below = (1u << (dropped - 1)) - 1;
    const uint32_t odd = (magnitude >> dropped) & 1u;
    code = (magnitude + half_below + odd) >> dropped;
    code -= static_cast<uint32_t>(127 - bias) << format.mantissa_bits;
  } else {
    // Adding 2^(lowest_exponent - mantissa_bits + 23) leaves the multiple of the subnormal
    // spacing, correctly rounded, in the low mantissa bits.
    const uint32_t shift_bits =
        static_cast<uint32_t>(lowest_exponent - format.mantissa_bits + 23 + 127) << 23;
    code = float_bits(bits_float(magnitude) + bits_float(shift_bits)) - shift_bits;
  }
  return sign | (code > format.largest ? format.overflow : code);
}

TI_HOST_DEVICE uint16_t round_to_bfloat16(float value) {
  const uint32_t bits = float_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Stores element `index` of an array of any dtype but float64 and the raw words.
TI_HOST_DEVICE void store_rounded(DType dtype, void* data, int64_t index, float value) {
  switch (dtype) {
    case DType::kBFloat16:
      static_cast<uint16_t*>(data)[index] = round_to_bfloat16(value);
      break;
    case DType::kFloat16:
      static_cast<uint16_t*>(data)[index] =
          static_cast<uint16_t>(round_to_small_float(value, kFormatFloat16));
      break;
    case DType::kFloat8E4M3FN:
      static_cast<uint8_t*>(data)[index] =
          static_cast<uint8_t>(round_to_small_float(value, kFormatFloat8E4M3FN));
      break;
    case DType::kFloat8E5M2:
      static_cast<uint8_t*>(data)[index] =
          static_cast<uint8_t>(round_to_small_float(value, kFormatFloat8E5M2));
      break;
    default:
      static_cast<float*>(data)[index] = value;
      break;
  }
}

}  // namespace torch_init
