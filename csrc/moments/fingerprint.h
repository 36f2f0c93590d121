// SPDX-License-Identifier: Apache-2.0
//
// The fingerprint of a tensor's bits; docs/fingerprint.md specifies it. A tensor's fingerprint is
// the sum, modulo 2^64, of one term for each element, which depends on the element's logical index
// and bits alone: parts add up to the whole, in any order.
//
// The terms are those of the tensor's image: its elements as little-endian bytes, dense, in
// row-major order, read as 32-bit words. A page of the image has kPageWords words.
#pragma once

#include "portable/portable.h"

namespace torch_init {

constexpr int kPageBytes = 4096;
constexpr int kPageWords = kPageBytes / 4;

// The finaliser of SplitMix64 (Steele, Lea and Flood 2014), a bijection.
TI_HOST_DEVICE constexpr uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// A word's factor is that of its page times that of its place in the page. Both are odd, so that a
// change within one word always changes the sum.
TI_HOST_DEVICE constexpr uint64_t page_factor(uint64_t page) { return mix(~page) | 1u; }
TI_HOST_DEVICE constexpr uint64_t place_factor(uint64_t place) { return mix(place) | 1u; }

TI_HOST_DEVICE uint64_t word_factor(uint64_t word) {
  return page_factor(word / kPageWords) * place_factor(word % kPageWords);
}

// What stands for an element's bits in the image. Rotated, because a word's top bit reaches only
// the top bit of the sum, and signs change more often than the exponent's first bit does.
// Complemented, so that a zero counts.
template <typename Code>
TI_HOST_DEVICE Code image_code(Code bits) {
  return static_cast<Code>(~((bits << 1) | (bits >> (8 * sizeof(Code) - 1))));
}

// The term of element `index`; Code is the unsigned integer type of its size.
template <typename Code>
TI_HOST_DEVICE uint64_t fingerprint_term(uint64_t index, Code bits) {
  const Code code = image_code(bits);
  if (sizeof(Code) == 8) {
    return word_factor(2 * index) * static_cast<uint32_t>(code) +
           word_factor(2 * index + 1) * (static_cast<uint64_t>(code) >> 32);
  }
  constexpr uint64_t kPerWord = sizeof(Code) < 4 ? 4 / sizeof(Code) : 1;
  const int shift = static_cast<int>(8 * sizeof(Code) * (index % kPerWord));
  return word_factor(index / kPerWord) * (static_cast<uint64_t>(code) << shift);
}

}  // namespace torch_init
