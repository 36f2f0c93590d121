// SPDX-License-Identifier: Apache-2.0
//
// One half-step of a layer of any size: a matrix product on the tensor cores whose epilogue
// samples. A block of threads makes a tile of 64 units x 128 chains, each of its eight warps a
// group of 32 units of 32 chains; weights and states arrive in shared memory in the background, a
// step of 32 sources after the other. Between half-steps states are bits:
//
//     [groups of 32 units][padded chains], bit i of a word is unit i of the group
#pragma once

#include <type_traits>

#include "gibbs/gibbs_kernel.h"
#include "gibbs/limb_product.h"

namespace torch_init {

constexpr int kTileGroups = 2;
constexpr int kProducts = 4;
constexpr int kWarpChains = kProducts * kChainsOfProduct;
constexpr int kTileChains = kGibbsWarps / kTileGroups * kWarpChains;
// Steps that are in shared memory or on their way to it.
constexpr int kStages = 4;

struct TileStep {
  GibbsTask task;
  int64_t half_step;
  uint32_t* bits[2];  // of each side
  uint8_t* levels;    // grey levels of visible units: [groups][padded chains][32]
};

TI_HOST_DEVICE int64_t padded_chains(const GibbsTask& task) {
  return (task.chains + kTileChains - 1) / kTileChains * kTileChains;
}

TI_HOST_DEVICE bool is_grey(const TileStep& step) {
  return step.half_step == 0 && step.task.grey != 0;
}

inline int64_t tile_workspace_size(const GibbsTask& task) {
  const int64_t visible = groups_of(task.side[kVisible].units);
  const int64_t words = visible + groups_of(task.side[kHidden].units);
  const int64_t levels = task.grey != 0 ? visible * kGroupUnits : 0;
  return padded_chains(task) * (words * static_cast<int64_t>(sizeof(uint32_t)) + levels);
}

// `workspace` is aligned to 16 bytes.
inline TileStep first_tile_step(const GibbsTask& task, void* workspace) {
  uint32_t* const visible = static_cast<uint32_t*>(workspace);
  uint32_t* const hidden = visible + groups_of(task.side[kVisible].units) * padded_chains(task);
  uint32_t* const end = hidden + groups_of(task.side[kHidden].units) * padded_chains(task);
  return {task, 0, {visible, hidden}, reinterpret_cast<uint8_t*>(end)};
}

TI_HOST_DEVICE int64_t pack_items(const TileStep& step, int side) {
  return groups_of(step.task.side[side].units) * padded_chains(step.task);
}

template <typename Block>
TI_HOST_DEVICE void pack_states(const Block& block, const TileStep& step, int side) {
  const int64_t chains = padded_chains(step.task);
  share(block, pack_items(step, side), [&](int64_t item) {
    step.bits[side][item] = bits_of_states(step.task, side, item / chains, item % chains);
  });
}

template <typename Block>
TI_HOST_DEVICE void unpack_states(const Block& block, const TileStep& step, int side) {
  const int64_t chains = padded_chains(step.task);
  share(block, pack_items(step, side), [&](int64_t item) {
    states_of_bits(step.task, side, item / chains, item % chains, step.bits[side][item]);
  });
}

TI_HOST_DEVICE int64_t level_items(const TileStep& step) {
  return pack_items(step, kVisible) * kGroupUnits;
}

template <typename Block>
TI_HOST_DEVICE void pack_levels(const Block& block, const TileStep& step) {
  const int64_t chains = padded_chains(step.task);
  const int64_t units = step.task.side[kVisible].units;
  share(block, level_items(step), [&](int64_t item) {
    const int64_t chain = item / kGroupUnits % chains;
    const int64_t unit = item / kGroupUnits / chains * kGroupUnits + item % kGroupUnits;
    const bool exists = chain < step.task.chains && unit < units;
    step.levels[item] = exists ? step.task.state[kVisible][chain * units + unit] : uint8_t{0};
  });
}

// A step of both groups' weights, then one of the chains' states.
template <bool kGrey>
struct alignas(16) TileShared {
  static constexpr int kWeights = kTileGroups * kBlockBytes;
  static constexpr int kStates = kTileChains * (kGrey ? kStepSources : 4);

  uint8_t stage[kStages][kWeights + kStates];
  float rows[kTableSize];
};

// Where a tile lies.
struct Tile {
  int to;
  int64_t group;  // the first of kTileGroups
  int64_t chain;  // the first of kTileChains
};

TI_HOST_DEVICE int64_t tile_count(const TileStep& step) {
  const int64_t units = step.task.side[side_of(step.task, step.half_step)].units;
  return limb_groups(units) / kTileGroups * (padded_chains(step.task) / kTileChains);
}

TI_HOST_DEVICE Tile tile_at(const TileStep& step, int64_t index) {
  const int64_t across = padded_chains(step.task) / kTileChains;
  return {side_of(step.task, step.half_step), index / across * kTileGroups,
          index % across * kTileChains};
}

// Where step 0 of a tile's weights and states lies in global memory, and how far the next one is.
struct TileSources {
  const uint8_t* weights;
  int64_t next_group;
  const uint8_t* states;
  int64_t next_states;
};

template <bool kGrey>
TI_HOST_DEVICE TileSources sources_of(const TileStep& step, const Tile& tile) {
  constexpr int64_t kOfChain = kGrey ? kStepSources : sizeof(uint32_t);
  const SideWeights& side = step.task.side[tile.to];
  const int64_t next_group = groups_of(side.sources) * kBlockBytes;
  const uint8_t* states = step.levels;
  if (!kGrey) states = reinterpret_cast<const uint8_t*>(step.bits[1 - tile.to]);
  return {side.limbs + tile.group * next_group, next_group, states + tile.chain * kOfChain,
          padded_chains(step.task) * kOfChain};
}

// Starts copying step k of a tile to shared memory, at most three vectors a thread.
template <bool kGrey, typename Block>
TI_HOST_DEVICE void copy_step(const Block& block, const TileSources& sources, int k,
                              TileShared<kGrey>* shared) {
  using Shared = TileShared<kGrey>;
  // Threads that copy no weights copy the states, if they are few.
  constexpr int kFirst = kGrey ? 0 : kBlockBytes;
  static_assert(kFirst + Shared::kStates <= kGibbsThreads * 16, "one vector of states a thread");
  const uint8_t* const weights = sources.weights + int64_t{k} * kBlockBytes;
  const uint8_t* const states = sources.states + k * sources.next_states;
  uint8_t* const to = shared->stage[k % kStages];
  block.for_each_thread([&](int thread) {
    const int at = thread * 16;
    if (at < kBlockBytes) {
      block.copy_16(to + at, weights + at);
      block.copy_16(to + kBlockBytes + at, weights + sources.next_group + at);
    }
    if (at >= kFirst && at < kFirst + Shared::kStates) {
      block.copy_16(to + Shared::kWeights + at - kFirst, states + at - kFirst);
    }
  });
}

TI_HOST_DEVICE int64_t warp_group(const Tile& tile, int warp) {
  return tile.group + warp % kTileGroups;
}

TI_HOST_DEVICE int64_t warp_chain(const Tile& tile, int warp) {
  return tile.chain + warp / kTileGroups * kWarpChains;
}

// Whether a warp has anything to do.
TI_HOST_DEVICE bool warp_is_used(const TileStep& step, const Tile& tile, int warp) {
  return warp_chain(tile, warp) < step.task.chains &&
         warp_group(tile, warp) < groups_of(step.task.side[tile.to].units);
}

template <bool kGrey, typename Block, typename Sums>
TI_HOST_DEVICE void multiply_tile(const Block& block, const TileStep& step, const Tile& tile,
                                  TileShared<kGrey>* shared, Sums* sums) {
  const int steps = static_cast<int>(groups_of(step.task.side[tile.to].sources));
  const TileSources sources = sources_of<kGrey>(step, tile);
  block.for_each_warp([&](const auto& warp) { sums->of(warp) = {}; });
#pragma unroll 1
  for (int k = 0; k < kStages - 1; ++k) {
    if (k < steps) copy_step(block, sources, k, shared);
    block.end_of_copies();
  }
#pragma unroll 1
  for (int k = 0; k < steps; ++k) {
    block.template wait_for_copies<kStages - 2>();
    // Everybody's copies of step k are there, and step k - 1 has been read.
    block.barrier();
    if (k + kStages - 1 < steps) copy_step(block, sources, k + kStages - 1, shared);
    block.end_of_copies();
    block.for_each_warp([&](const auto& warp) {
      if (!warp_is_used(step, tile, warp.index)) return;
      const int64_t chain = warp_chain(tile, warp.index) - tile.chain;
      const uint8_t* const stage = shared->stage[k % kStages];
      const uint8_t* const weights = stage + warp.index % kTileGroups * kBlockBytes;
      const uint8_t* const states = stage + TileShared<kGrey>::kWeights;
      if constexpr (kGrey) {
        const GreyStates fetch = {states + chain * kStepSources};
        multiply_block<kProducts>(warp, weights, fetch, &sums->of(warp));
        if ((k + 1) % kStepsToCarry == 0) carry_limbs<kProducts>(warp, &sums->of(warp));
      } else {
        const BitStates fetch = {reinterpret_cast<const uint32_t*>(states) + chain};
        multiply_block<kProducts>(warp, weights, fetch, &sums->of(warp));
      }
    });
  }
}

// A lane samples four units of eight chains, and ends up with the word of one of the warp's chains.
template <typename Sum, typename Warp>
TI_HOST_DEVICE void sample_warp(const Warp& warp, const TileStep& step, const Tile& tile,
                                const SharedRows& rows, const LimbSums<kProducts, Warp>& of_limbs) {
  const GibbsTask& task = step.task;
  const SideWeights& side = task.side[tile.to];
  const int64_t group = warp_group(tile, warp.index);
  const int64_t first_chain = warp_chain(tile, warp.index);
  uint32_t* const out = step.bits[tile.to] + group * padded_chains(task);
  WarpSums<kProducts, Warp, Sum> sums = combine_limbs<Sum, kProducts>(warp, of_limbs);
  typename Warp::template Lanes<uint32_t, 1> word = {};
  typename Warp::template Lanes<uint32_t, 1> own = {};
#pragma unroll 1
  for (int i = 0; i < 2 * kProducts; ++i) {
    warp.for_each_lane([&](int lane) {
      const int64_t chain = first_chain + chain_of_sums(lane, i);
      const int first = lane / 4 * kUnitsOfBlock;
      *word.of(lane) = 0;
      if (chain < task.chains) {
        const int64_t unit = group * kGroupUnits + first;
        const FourThresholds thresholds = thresholds_of(task, step.half_step, chain, unit, rows);
        const UnitConstants constants = {side.bias + unit, side.sums + unit};
        const bool clamped = tile.to == kVisible && task.clamped != nullptr;
        const uint32_t before = clamped ? out[chain] >> first : 0;
        *word.of(lane) = four_states(task, step.half_step, chain, unit, sums.of(lane), thresholds,
                                     constants, before)
                         << first;
      }
    });
    warp.or_among_rows(&word);
    warp.for_each_lane([&](int lane) {
      if (lane / 4 == i) *own.of(lane) = *word.of(lane);
      // The next four sums to the front: an index would force them into local memory.
#pragma unroll
      for (int k = 0; k + kUnitsOfBlock < 2 * kProducts * kUnitsOfBlock; ++k) {
        sums.of(lane)[k] = sums.of(lane)[k + kUnitsOfBlock];
      }
    });
  }
  warp.for_each_lane([&](int lane) {
    const int64_t chain = first_chain + chain_of_sums(lane, lane / 4);
    if (chain < task.chains && samples(task, step.half_step)) out[chain] = *own.of(lane);
  });
}

// The tile that has the block's index.
template <bool kGrey, typename Block>
TI_HOST_DEVICE void half_step_tile(const Block& block, const TileStep& step, const float* rows,
                                   TileShared<kGrey>* shared) {
  using Warp = typename Block::Warp;
  using Sum = std::conditional_t<kGrey, int64_t, int32_t>;
  const Tile tile = tile_at(step, block.index());
  typename Block::template PerWarp<LimbSums<kProducts, Warp>> sums;
  multiply_tile(block, step, tile, shared, &sums);
  share_in_block(block, kTableSize, [&](int64_t i) { shared->rows[i] = rows[i]; });
  block.barrier();
  block.for_each_warp([&](const Warp& warp) {
    if (!warp_is_used(step, tile, warp.index)) return;
    sample_warp<Sum>(warp, step, tile, SharedRows{shared->rows}, sums.of(warp));
  });
}

}  // namespace torch_init
