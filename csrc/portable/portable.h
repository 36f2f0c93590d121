// SPDX-License-Identifier: Apache-2.0
//
// What host and device code share: qualifiers, bit casts, and the one rounding primitive whose
// spelling differs between compilers. Everything here is exact IEEE 754 arithmetic, so that a
// function built on it returns the same bits wherever it is compiled.
#pragma once

#include <stdint.h>
#include <string.h>

// Internal linkage on purpose: translation units are compiled for different instruction sets, and
// a shared inline function could be merged by the linker into the one an older CPU cannot run.
#if defined(__CUDACC__)
#define TI_HOST_DEVICE_MEMBER __host__ __device__ __forceinline__
#else
#define TI_HOST_DEVICE_MEMBER inline __attribute__((always_inline))
#endif
#define TI_HOST_DEVICE static TI_HOST_DEVICE_MEMBER

namespace torch_init {

TI_HOST_DEVICE uint32_t float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

TI_HOST_DEVICE float bits_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

TI_HOST_DEVICE uint64_t double_bits(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

TI_HOST_DEVICE double bits_double(uint64_t bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// 2^exponent, a normal number.
TI_HOST_DEVICE double power_of_two(int exponent) {
  return bits_double(static_cast<uint64_t>(exponent + 1023) << 52);
}

// Correctly rounded a * b + c without a fused instruction. The product of two floats is exact in
// double; the sum is rounded to odd (the last bit of an inexact result is forced to 1), which
// makes the second rounding, to float, the only one that counts (Boldo & Melquiond 2008).
TI_HOST_DEVICE float fma_emulated(float a, float b, float c) {
  const double product = static_cast<double>(a) * static_cast<double>(b);
  const double addend = static_cast<double>(c);
  const double sum = product + addend;
  const double shadow = sum - product;
  const double error = (product - (sum - shadow)) + (addend - shadow);
  uint64_t bits = double_bits(sum);
  const bool finite = (bits & 0x7ff0000000000000u) != 0x7ff0000000000000u;
  if (finite && error != 0.0 && (bits & 1u) == 0) {
    bits += ((error > 0.0) == (sum > 0.0)) ? 1u : ~static_cast<uint64_t>(0);
  }
  return static_cast<float>(bits_double(bits));
}

// Round-to-nearest a * b + c with one rounding.
TI_HOST_DEVICE float fma_rn(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#elif defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, c);
#else
  return fma_emulated(a, b, c);
#endif
}

struct WideProduct {
  uint32_t low;
  uint32_t high;
};

TI_HOST_DEVICE WideProduct multiply_wide(uint32_t a, uint32_t b) {
#if defined(__CUDA_ARCH__)
  // One instruction; nvcc makes three of a product of 64-bit integers.
  return {a * b, __umulhi(a, b)};
#else
  const uint64_t product = static_cast<uint64_t>(a) * b;
  return {static_cast<uint32_t>(product), static_cast<uint32_t>(product >> 32)};
#endif
}

}  // namespace torch_init
