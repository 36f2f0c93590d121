// SPDX-License-Identifier: Apache-2.0
//
// Sums of the weights (limbs.h) of a group of 32 units over 32 sources, for kProducts * 8 chains:
// what one warp multiplies at a time.
#pragma once

#include "gibbs/limbs.h"

namespace torch_init {

constexpr int kChainsOfProduct = 8;  // columns of B and D
// Steps after which limbs' sums of grey levels, which must not wrap around, might no longer fit:
// 2^15 sources * 2^7 * 255 < 2^30.
constexpr int kStepsToCarry = (1 << 15) / kStepSources;

// Of each limb, half of a group, and eight chains the four sums of a fragment D.
template <int kProducts, typename Warp>
using LimbSums = typename Warp::template Lanes<int32_t, kLimbs * 2 * kProducts * 4>;

template <int kProducts>
TI_HOST_DEVICE int sums_at(int limb, int half, int product) {
  return ((limb * 2 + half) * kProducts + product) * 4;
}

// Four bits as the bytes 0 and 1.
TI_HOST_DEVICE uint32_t bytes_of_bits(uint32_t bits) {
  return ((bits & 15u) * 0x00204081u) & 0x01010101u;
}

// A lane's part of a fragment B: what chain g of eight has of sources 8 t ... 8 t + 7.
struct BitStates {
  const uint32_t* words;  // of each chain: bit i is source i of the step

  TI_HOST_DEVICE_MEMBER void operator()(int lane, int product, uint32_t out[2]) const {
    const uint32_t bits = words[product * kChainsOfProduct + lane / 4] >> (8 * (lane % 4));
    out[0] = bytes_of_bits(bits);
    out[1] = bytes_of_bits(bits >> 4);
  }
};

struct GreyStates {
  const uint8_t* levels;  // [chains][32 sources]

  TI_HOST_DEVICE_MEMBER void operator()(int lane, int product, uint32_t out[2]) const {
    const int chain = product * kChainsOfProduct + lane / 4;
    const uint8_t* const at = levels + chain * kStepSources + 8 * (lane % 4);
    memcpy(out, __builtin_assume_aligned(at, 8), 8);
  }
};

// Adds to the sums what a block of weights and the states make.
template <int kProducts, typename Warp, typename States>
TI_HOST_DEVICE void multiply_block(const Warp& warp, const uint8_t* weights, const States& fetch,
                                   LimbSums<kProducts, Warp>* sums) {
  typename Warp::template Lanes<uint32_t, 2 * kProducts> states;
  warp.for_each_lane([&](int lane) {
#pragma unroll
    for (int n = 0; n < kProducts; ++n) {
      fetch(lane, n, states.of(lane) + 2 * n);
    }
  });
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int limb = 0; limb < kLimbs; ++limb) {
      typename Warp::template Lanes<uint32_t, 4> fragment;
      warp.for_each_lane([&](int lane) {
        const uint8_t* const at =
            weights + ((half * kLimbs + limb) * kWarpLanes + lane) * kLaneBytes;
        memcpy(fragment.of(lane), __builtin_assume_aligned(at, kLaneBytes), kLaneBytes);
      });
#pragma unroll
      for (int n = 0; n < kProducts; ++n) {
        warp.template multiply_add<true>(fragment, states, 2 * n, sums,
                                         sums_at<kProducts>(limb, half, n));
      }
    }
  }
}

// Moves what a limb's sum has beyond eight bits to the next limb, which changes no sum.
template <int kProducts, typename Warp>
TI_HOST_DEVICE void carry_limbs(const Warp& warp, LimbSums<kProducts, Warp>* sums) {
  constexpr int kEach = 2 * kProducts * 4;
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

// A lane's sums of weights: of four units of the chains 8 n + 2 t + odd, at 4 (2 n + odd) + k.
template <int kProducts, typename Warp, typename Sum>
using WarpSums = typename Warp::template Lanes<Sum, 2 * kProducts * 4>;

template <typename Sum, int kProducts, typename Warp>
TI_HOST_DEVICE WarpSums<kProducts, Warp, Sum> combine_limbs(const Warp& warp,
                                                            const LimbSums<kProducts, Warp>& sums) {
  WarpSums<kProducts, Warp, Sum> combined_sums;
  warp.for_each_lane([&](int lane) {
#pragma unroll
    for (int i = 0; i < 2 * kProducts; ++i) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        int32_t limb[kLimbs];
#pragma unroll
        for (int l = 0; l < kLimbs; ++l) {
          limb[l] = sums.of(lane)[sums_at<kProducts>(l, k / 2, i / 2) + 2 * (k % 2) + i % 2];
        }
        combined_sums.of(lane)[4 * i + k] = combined<Sum>(limb);
      }
    }
  });
  return combined_sums;
}

// The chain, of a warp's, that sums 4 i ... 4 i + 3 of a lane are of.
TI_HOST_DEVICE int chain_of_sums(int lane, int i) {
  return i / 2 * kChainsOfProduct + 2 * (lane % 4) + i % 2;
}

}  // namespace torch_init
