// SPDX-License-Identifier: Apache-2.0
//
// One half-step where tiles (tile_kernel.h) would leave most of a GPU idle, of small batches. A
// block of threads makes 32 units of 32 chains, and its warps deal out the sources among
// themselves: each weight is read by one warp, from global memory, and the sums meet in shared
// memory.
#pragma once

#include "gibbs/packed_states.h"
#include "gibbs/shared_sums.h"

namespace torch_init {

constexpr int kSplitChains = 32;

struct alignas(16) SplitShared {
  int32_t sums[kSplitChains * kSumsOfChain];
  float rows[kTableSize];
};

TI_HOST_DEVICE int64_t split_blocks_across(const GibbsTask& task) {
  return (task.chains + kSplitChains - 1) / kSplitChains;
}

TI_HOST_DEVICE int64_t split_blocks(const TileStep& step) {
  const int64_t units = step.task.side[side_of(step.task, step.half_step)].units;
  return groups_of(units) * split_blocks_across(step.task);
}

template <typename Block>
TI_HOST_DEVICE void half_step_split(const Block& block, const TileStep& step, const float* rows,
                                    SplitShared* shared) {
  using Warp = typename Block::Warp;
  constexpr int kOfWarp = kSplitChains / kChainsOfProduct;
  static_assert(kSplitChains == 4 * kGibbsWarps, "a warp samples four chains");
  block.let_next_grid_start();
  const GibbsTask& task = step.task;
  const int to = side_of(task, step.half_step);
  const SideWeights& side = task.side[to];
  const int steps = static_cast<int>(groups_of(side.sources));
  const int64_t group = block.index() / split_blocks_across(task);
  const int64_t first_chain = block.index() % split_blocks_across(task) * kSplitChains;
  share_in_block(block, kSplitChains * kSumsOfChain, [&](int64_t i) { shared->sums[i] = 0; });
  share_in_block(block, kTableSize, [&](int64_t i) { shared->rows[i] = rows[i]; });
  block.wait_for_previous_grid();
  block.barrier();
  block.for_each_warp([&](const Warp& warp) {
    LimbSums<2, kOfWarp, Warp> limbs = {};
    const int64_t words = padded_chains(task);
    const uint8_t* weights = side.limbs + (group * steps + warp.index) * kBlockBytes;
    const uint32_t* bits = step.bits[1 - to] + first_chain + warp.index * words;
#pragma unroll 1
    for (int k = warp.index; k < steps; k += kGibbsWarps) {
      multiply_block<2, kOfWarp>(warp, weights, BitStates{bits}, &limbs);
      weights += kGibbsWarps * kBlockBytes;
      bits += kGibbsWarps * words;
    }
    add_to_shared(block, warp, combine_limbs<int32_t, 2, kOfWarp>(warp, limbs), shared->sums);
  });
  block.barrier();
  block.for_each_warp([&](const Warp& warp) {
    const int64_t chain_of_warp = first_chain + 4 * warp.index;
    uint32_t* const out = step.bits[to] + group * padded_chains(task) + chain_of_warp;
    typename Warp::template Lanes<uint32_t, 1> word = {};
    warp.for_each_lane([&](int lane) {
      const int64_t chain = chain_of_warp + lane % 4;
      if (chain >= task.chains) return;
      const int first = lane / 4 * kUnitsOfBlock;
      const int64_t unit = group * kGroupUnits + first;
      int32_t sum[kUnitsOfBlock];
      take_from_shared(shared->sums, 4 * warp.index + lane % 4, lane / 4, sum);
      const FourThresholds thresholds =
          thresholds_of(task, step.half_step, chain, unit, SharedRows{shared->rows});
      const UnitConstants constants = {side.bias + unit, side.sums + unit};
      const bool clamped = to == kVisible && task.clamped != nullptr;
      const uint32_t before = clamped ? out[lane % 4] >> first : 0;
      *word.of(lane) =
          four_states(task, step.half_step, chain, unit, sum, thresholds, constants, before)
          << first;
    });
    warp.or_among_rows(&word);
    if (!samples(task, step.half_step)) return;
    warp.for_each_lane([&](int lane) {
      if (lane < 4 && chain_of_warp + lane < task.chains) out[lane] = *word.of(lane);
    });
  });
}

}  // namespace torch_init
