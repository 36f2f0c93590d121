// SPDX-License-Identifier: Apache-2.0
//
// Sums of the weights (limbs.h) of a group of 32 units, or half of one, over 32 sources, for
// kProducts * 8 chains: what one warp multiplies at a time.
#pragma once

#include "gibbs/limbs.h"

namespace torch_init {

constexpr int kChainsOfProduct = 8;  // columns of B and D
// Steps after which limbs' sums of grey levels, which must not wrap around, might no longer fit:
// 2^15 sources * 2^7 * 255 < 2^30.
constexpr int kStepsToCarry = (1 << 15) / kStepSources;

// Of each limb, half of a group, and eight chains the four sums of a fragment D. A warp's units are
// kHalves halves of a group.
template <int kHalves, int kProducts, typename Warp>
using LimbSums = typename Warp::template Lanes<int32_t, kLimbs * kHalves * kProducts * 4>;

template <int kHalves, int kProducts>
TI_HOST_DEVICE int sums_at(int limb, int half, int product) {
  return ((limb * kHalves + half) * kProducts + product) * 4;
}

// A lane's part of a fragment B, of a word of states.
TI_HOST_DEVICE void bytes_of_bits(int lane, uint32_t word, uint32_t out[2]) {
  const uint32_t bits = word >> source_of_byte(lane, 0, 0);
  out[0] = bits & 0x01010101u;
  out[1] = (bits >> 1) & 0x01010101u;
}

struct BitStates {
  const uint32_t* words;  // of each chain: bit i is source i of the step

  TI_HOST_DEVICE_MEMBER void operator()(int lane, int product, uint32_t out[2]) const {
    bytes_of_bits(lane, words[product * kChainsOfProduct + lane / 4], out);
  }
};

// Adds to the sums what weights, halves of a block, and the states make. What chain the columns of
// a product are is for `fetch` to say, which gives a lane's part of a fragment B.
template <int kHalves, int kProducts, typename Warp, typename States>
TI_HOST_DEVICE void multiply_block(const Warp& warp, const uint8_t* weights, const States& fetch,
                                   LimbSums<kHalves, kProducts, Warp>* sums) {
  typename Warp::template Lanes<uint32_t, 4> rows[kHalves * kLimbs];
#pragma unroll
  for (int i = 0; i < kHalves * kLimbs; ++i) {
    warp.for_each_lane([&](int lane) {
      const uint8_t* const at = weights + (i * kWarpLanes + lane) * kLaneBytes;
      memcpy(rows[i].of(lane), __builtin_assume_aligned(at, kLaneBytes), kLaneBytes);
    });
  }
#pragma unroll
  for (int n = 0; n < kProducts; ++n) {
    typename Warp::template Lanes<uint32_t, 2> states;
    warp.for_each_lane([&](int lane) { fetch(lane, n, states.of(lane)); });
#pragma unroll
    for (int i = 0; i < kHalves * kLimbs; ++i) {
      warp.template multiply_add<true>(rows[i], states, 0, sums,
                                       sums_at<kHalves, kProducts>(i % kLimbs, i / kLimbs, n));
    }
  }
}

// Moves what a limb's sum has beyond eight bits to the next limb, which changes no sum.
template <int kHalves, int kProducts, typename Warp>
TI_HOST_DEVICE void carry_limbs(const Warp& warp, LimbSums<kHalves, kProducts, Warp>* sums) {
  constexpr int kEach = kHalves * kProducts * 4;
  warp.for_each_lane([&](int lane) {
    int32_t* const of_lane = sums->of(lane);
#pragma unroll
    for (int i = 0; i < 2 * kEach; ++i) {
      const int32_t low = of_lane[i] & 255;
      of_lane[i + kEach] += (of_lane[i] - low) / 256;
      of_lane[i] = low;
    }
  });
}

// The sum that three limbs' sums make: modulo 2^32 for int32_t, in which every field fits.
template <typename Sum>
TI_HOST_DEVICE Sum combined(const int32_t limb[kLimbs]);

template <>
TI_HOST_DEVICE_MEMBER int32_t combined(const int32_t limb[kLimbs]) {
  return static_cast<int32_t>(static_cast<uint32_t>(limb[0]) +
                              (static_cast<uint32_t>(limb[1]) << 8) +
                              (static_cast<uint32_t>(limb[2]) << 16));
}

template <>
TI_HOST_DEVICE_MEMBER int64_t combined(const int32_t limb[kLimbs]) {
  return limb[0] + (int64_t{256} * limb[1] + int64_t{65536} * limb[2]);
}

// A lane's sums of weights of the columns 2 t + odd of product n, at 2 kHalves (2 n + odd) + k:
// k counts units 2 g and 2 g + 1 of each half.
template <int kHalves, int kProducts, typename Warp, typename Sum>
using WarpSums = typename Warp::template Lanes<Sum, 2 * kProducts * 2 * kHalves>;

template <typename Sum, int kHalves, int kProducts, typename Warp>
TI_HOST_DEVICE WarpSums<kHalves, kProducts, Warp, Sum> combine_limbs(
    const Warp& warp, const LimbSums<kHalves, kProducts, Warp>& sums) {
  WarpSums<kHalves, kProducts, Warp, Sum> combined_sums;
  warp.for_each_lane([&](int lane) {
#pragma unroll
    for (int i = 0; i < 2 * kProducts; ++i) {
#pragma unroll
      for (int k = 0; k < 2 * kHalves; ++k) {
        int32_t limb[kLimbs];
#pragma unroll
        for (int l = 0; l < kLimbs; ++l) {
          const int at = sums_at<kHalves, kProducts>(l, k / 2, i / 2) + 2 * (k % 2) + i % 2;
          limb[l] = sums.of(lane)[at];
        }
        combined_sums.of(lane)[2 * kHalves * i + k] = combined<Sum>(limb);
      }
    }
  });
  return combined_sums;
}

// The chain of BitStates that a lane's sums number 2 n + odd are of.
TI_HOST_DEVICE int chain_of_sums(int lane, int i) {
  return i / 2 * kChainsOfProduct + 2 * (lane % 4) + i % 2;
}

}  // namespace torch_init
