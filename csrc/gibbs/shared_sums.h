// SPDX-License-Identifier: Apache-2.0
//
// Where the sums of warps that share a group of 32 units meet: [chains][kSumsOfChain] in shared
// memory, unit 16 h + 4 q + 2 i + r of the group at 16 h + 8 r + 4 i + q: lanes that add, and lanes
// that take, reach different banks.
#pragma once

#include "gibbs/gibbs_kernel.h"
#include "gibbs/limb_product.h"

namespace torch_init {

// With a gap, so that four chains lie in different banks of shared memory.
constexpr int kSumsOfChain = kGroupUnits + 4;

template <typename Block, typename Warp, typename Sums>
TI_HOST_DEVICE void add_to_shared(const Block& block, const Warp& warp, const Sums& sums,
                                  int32_t* shared) {
  warp.for_each_lane([&](int lane) {
#pragma unroll
    for (int i = 0; i < Sums::kOfLane / kUnitsOfBlock; ++i) {
      int32_t* const of_chain = shared + chain_of_sums(lane, i) * kSumsOfChain;
#pragma unroll
      for (int k = 0; k < kUnitsOfBlock; ++k) {
        const int at = 8 * k + lane / 4 % 2 * 4 + lane / 8;
        block.add(of_chain + at, sums.of(lane)[kUnitsOfBlock * i + k]);
      }
    }
  });
}

// The sums of units 4 q ... 4 q + 3 of a chain.
TI_HOST_DEVICE void take_from_shared(int32_t* shared, int chain, int q, int32_t sum[4]) {
  int32_t* const of_chain = shared + chain * kSumsOfChain + q / 4 * 16 + q % 4;
#pragma unroll
  for (int k = 0; k < kUnitsOfBlock; ++k) {
    int32_t* const at = of_chain + 8 * (k % 2) + 4 * (k / 2);
    sum[k] = *at;
    *at = 0;  // for the next half-step
  }
}

}  // namespace torch_init
