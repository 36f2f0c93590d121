// SPDX-License-Identifier: Apache-2.0
//
// Where the sums of warps that share a group of 32 units meet: [chains][kSumsOfChain] in shared
// memory, unit 4 g + k of the group at 8 k + g.
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
        block.add(of_chain + 8 * k + lane / 4, sums.of(lane)[kUnitsOfBlock * i + k]);
      }
    }
  });
}

// The sums of units 4 g ... 4 g + 3 of a chain.
TI_HOST_DEVICE void take_from_shared(int32_t* shared, int chain, int g, int32_t sum[4]) {
  int32_t* const at = shared + chain * kSumsOfChain + g;
#pragma unroll
  for (int k = 0; k < kUnitsOfBlock; ++k) {
    sum[k] = at[8 * k];
    at[8 * k] = 0;  // for the next half-step
  }
}

}  // namespace torch_init
