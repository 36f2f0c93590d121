// SPDX-License-Identifier: Apache-2.0
//
// From float32 values to what the CUDA fill kernel stores: rounded and clamped. The host does what
// a GPU's instructions do.
#pragma once

#include "distributions/rounding.h"

namespace torch_init {

// kMagnitude: between -high and high, which is not 0. kRange: between low and high, where -0 is
// less than 0 (the specification's clamp keeps a -0 if low is 0). No bound is -0 (lower.cpp).
enum class Clamp { kNone, kMagnitude, kRange };

// The value's code, repeated to fill a word.
TI_HOST_DEVICE uint32_t code_of(DType dtype, float value) {
  uint32_t word = 0;
  store_rounded(dtype, &word, 0, value);
  return word;
}

// Codes of kBits bits as integers in the order of the values.
template <int kBits>
TI_HOST_DEVICE int32_t order_of_code(uint32_t code) {
  const int32_t top = static_cast<int32_t>(code << (32 - kBits));
  return top < 0 ? top ^ 0x7fffffff : top;
}

template <int kBits, Clamp kClamp>
TI_HOST_DEVICE uint32_t clamp_code(uint32_t code, uint32_t low, uint32_t high) {
  if (kClamp == Clamp::kNone) return code;
  if (kClamp == Clamp::kMagnitude) {
    const uint32_t sign = code & (1u << (kBits - 1));
    return sign | ((code ^ sign) < high ? code ^ sign : high);
  }
  const uint32_t at_least = order_of_code<kBits>(code) < order_of_code<kBits>(low) ? low : code;
  return order_of_code<kBits>(at_least) > order_of_code<kBits>(high) ? high : at_least;
}

// Four values become element_size(kDType) words. A GPU rounds two at once, which keeps subnormals
// and has other bits than the specification only for NaN and, in float8_e5m2, for what is too
// large: none of them gets here. Of 16-bit numbers it clamps two at once too, after rounding: the
// bounds are numbers of the dtype, and rounding keeps the order.
template <DType kDType, Clamp kClamp>
class Pack {
 public:
  TI_HOST_DEVICE_MEMBER explicit Pack(const ValueMap<float>& map)
      : low_(bound(map.low)), high_(bound(map.high)) {}

  TI_HOST_DEVICE_MEMBER void operator()(const float value[4], uint32_t* out) const {
    if constexpr (kInPairs) {
      for (int i = 0; i < 2; ++i) out[i] = clamp_pair(round_pair(value[2 * i], value[2 * i + 1]));
    } else {
      float clamped[4];
      for (int i = 0; i < 4; ++i) clamped[i] = clamp_one(value[i]);
      round_four(clamped, out);
    }
  }

 private:
  static constexpr bool kInPairs = kDType == DType::kBFloat16 || kDType == DType::kFloat16;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 860
  static constexpr bool kByMagnitude = false;  // which these GPUs have no instruction for
#else
  static constexpr bool kByMagnitude = kClamp == Clamp::kMagnitude;
#endif

  TI_HOST_DEVICE_MEMBER static uint32_t bound(float value) {
    return kInPairs ? code_of(kDType, value) * 0x10001u : float_bits(value);
  }

  TI_HOST_DEVICE_MEMBER static uint32_t round_pair(float first, float second) {
#if defined(__CUDA_ARCH__)
    uint32_t pair;
    if (kDType == DType::kBFloat16) {
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    } else {
      asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    }
    return pair;
#else
    return code_of(kDType, first) | code_of(kDType, second) << 16;
#endif
  }

  TI_HOST_DEVICE_MEMBER uint32_t clamp_pair(uint32_t pair) const {
#if defined(__CUDA_ARCH__)
    if constexpr (kClamp == Clamp::kNone) return pair;
    if constexpr (kByMagnitude && kDType == DType::kBFloat16) {
      asm("min.xorsign.abs.bf16x2 %0, %0, %1;" : "+r"(pair) : "r"(high_));
    } else if constexpr (kByMagnitude) {
      asm("min.xorsign.abs.f16x2 %0, %0, %1;" : "+r"(pair) : "r"(high_));
    } else if constexpr (kDType == DType::kBFloat16) {
      asm("max.bf16x2 %0, %0, %1;" : "+r"(pair) : "r"(low_));
      asm("min.bf16x2 %0, %0, %1;" : "+r"(pair) : "r"(high_));
    } else {
      asm("max.f16x2 %0, %0, %1;" : "+r"(pair) : "r"(low_));
      asm("min.f16x2 %0, %0, %1;" : "+r"(pair) : "r"(high_));
    }
    return pair;
#else
    const uint32_t low = low_ & 0xffffu;
    const uint32_t high = high_ & 0xffffu;
    return clamp_code<16, kClamp>(pair & 0xffffu, low, high) |
           clamp_code<16, kClamp>(pair >> 16, low, high) << 16;
#endif
  }

  TI_HOST_DEVICE_MEMBER float clamp_one(float value) const {
#if defined(__CUDA_ARCH__)
    if constexpr (kClamp == Clamp::kNone) return value;
    if constexpr (kByMagnitude) {
      asm("min.xorsign.abs.f32 %0, %0, %1;" : "+f"(value) : "f"(bits_float(high_)));
      return value;
    }
    return fminf(fmaxf(value, bits_float(low_)), bits_float(high_));
#else
    return bits_float(clamp_code<32, kClamp>(float_bits(value), low_, high_));
#endif
  }

  TI_HOST_DEVICE_MEMBER static void round_four(const float value[4], uint32_t* out) {
#if defined(__CUDA_ARCH__)
    if constexpr (element_size(kDType) == 1) {
      uint16_t pair[2];
      for (int i = 0; i < 2; ++i) {
        if (kDType == DType::kFloat8E4M3FN) {
          asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;"
              : "=h"(pair[i])
              : "f"(value[2 * i + 1]), "f"(value[2 * i]));
        } else {
          asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;"
              : "=h"(pair[i])
              : "f"(value[2 * i + 1]), "f"(value[2 * i]));
        }
      }
      out[0] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
      return;
    }
#endif
    constexpr int kSize = static_cast<int>(element_size(kDType));
    memset(out, 0, 4 * kSize);
    for (int i = 0; i < 4; ++i) store_rounded(kDType, out, i, value[i]);
  }

  uint32_t low_;
  uint32_t high_;
};

}  // namespace torch_init
