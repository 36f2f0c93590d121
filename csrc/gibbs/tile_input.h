// SPDX-License-Identifier: Apache-2.0
//
// What a tile (tile_kernel.h) is made of, where it lies, and how its weights and states come to a
// block's shared memory: in the background, a few steps of 32 sources ahead.
#pragma once

#include "gibbs/packed_states.h"

namespace torch_init {

constexpr int kTileThreads = kTileWarps * kWarpLanes;
// Of a warp's units and chains, a Philox block is four and one: so many times its lanes take one.
constexpr int kQuadsOfTile = kHalfUnits / kUnitsOfBlock;
constexpr int kThresholdTurns = kQuadsOfTile * kWarpChains / kWarpLanes;

// Thresholds of a warp, by turn and lane.
struct WarpThresholds {
  FourThresholds of[kThresholdTurns][kWarpLanes];
};

// A tile's weights of a step, then the chains' states.
template <bool kGrey>
struct alignas(16) TileInput {
  static constexpr int kStates = kTileChains * (kGrey ? kStepSources : 4);
  static constexpr int kStatesOfWarp = kStates / kTileWarps;

  uint8_t bytes[kHalfBytes + kStates];
};

template <bool kGrey>
struct TileShared {
  // Steps that arrive together, and so many times that they are there or on their way.
  static constexpr int kTogether = kGrey ? 1 : 2;
  static constexpr int kStages = kGrey ? 2 : 3;

  TileInput<kGrey> stage[kStages][kTogether];
  // Of grey levels thresholds are made after the products, where the stages were.
  WarpThresholds thresholds[kGrey ? 1 : kTileWarps];
  alignas(16) float rows[kTableSize * kTableCopies];

  TI_HOST_DEVICE_MEMBER WarpThresholds* thresholds_of(int warp) {
    static_assert(sizeof stage >= kTileWarps * sizeof(WarpThresholds) || !kGrey, "no room");
    if (!kGrey) return thresholds + warp;
    return reinterpret_cast<WarpThresholds*>(stage) + warp;
  }
};

// Where a tile lies.
struct Tile {
  int to;
  int64_t half;   // its units, of the side's halves of groups
  int64_t chain;  // the first of kTileChains
  int warps;      // so many have chains
};

TI_HOST_DEVICE int64_t halves_of(int64_t units) { return (units + kHalfUnits - 1) / kHalfUnits; }

TI_HOST_DEVICE int64_t tile_count(const TileStep& step) {
  const int64_t units = step.task.side[side_of(step.task, step.half_step)].units;
  return halves_of(units) * (padded_chains(step.task) / kTileChains);
}

// Numbers of tiles fit 32 bits: 2^32 tiles' states alone would fill terabytes.
TI_HOST_DEVICE Tile tile_at(const TileStep& step, uint32_t index) {
  const auto across = static_cast<uint32_t>(padded_chains(step.task) / kTileChains);
  const int64_t chain = int64_t{index % across} * kTileChains;
  const int64_t warps = (step.task.chains - chain + kWarpChains - 1) / kWarpChains;
  return {side_of(step.task, step.half_step), index / across, chain,
          static_cast<int>(warps < kTileWarps ? warps : kTileWarps)};
}

TI_HOST_DEVICE int tile_steps(const TileStep& step) {
  const int to = side_of(step.task, step.half_step);
  return static_cast<int>(groups_of(step.task.side[to].sources));
}

TI_HOST_DEVICE int64_t warp_chain(const Tile& tile, int warp) {
  return tile.chain + warp * kWarpChains;
}

// What a warp copies to shared memory: one of the first three a limb of the weights, the last one
// the states.
constexpr int kLimbBytes = kWarpLanes * kLaneBytes;
static_assert(kTileWarps == kLimbs + 1 && kHalfBytes == kLimbs * kLimbBytes, "a warp for each");

struct WarpSource {
  const uint8_t* next;  // of the next step, in global memory
  int64_t stride;       // from step to step
};

template <bool kGrey>
TI_HOST_DEVICE WarpSource source_of(const TileStep& step, const Tile& tile, int warp) {
  constexpr int64_t kOfChain = kGrey ? kStepSources : sizeof(uint32_t);
  if (warp < kLimbs) {
    const int64_t half = tile.half / 2 * tile_steps(step) * 2 + tile.half % 2;
    return {step.task.side[tile.to].limbs + half * kHalfBytes + warp * kLimbBytes, kBlockBytes};
  }
  const uint8_t* states = step.levels;
  if (!kGrey) states = reinterpret_cast<const uint8_t*>(step.bits[1 - tile.to]);
  return {states + tile.chain * kOfChain, padded_chains(step.task) * kOfChain};
}

// Starts copying the next steps, k and, if there is one, k + 1, to a stage.
template <bool kGrey, typename Block, typename Sources>
TI_HOST_DEVICE void copy_steps(const Block& block, int k, int steps, Sources* sources,
                               TileInput<kGrey>* stage) {
  if (k >= steps) return;
  block.for_each_warp([&](const auto& warp) {
    WarpSource& source = sources->of(warp);
    uint8_t* const of_warp = stage->bytes + warp.index * kLimbBytes;
    const bool copies_states = warp.index == kLimbs;
    const bool both = k + 1 < steps;
    warp.for_each_lane([&](int lane) {
      const unsigned at = static_cast<unsigned>(lane) * kLaneBytes;
#pragma unroll
      for (int s = 0; s < TileShared<kGrey>::kTogether; ++s) {
        uint8_t* const to = of_warp + s * sizeof *stage + at;
        const uint8_t* const from = source.next + s * source.stride + at;
        if (s == 0 || both) block.copy_16(to, from);
        if (copies_states && (s == 0 || both)) {
#pragma unroll
          for (int i = kLimbBytes; i < TileInput<kGrey>::kStates; i += kLimbBytes) {
            block.copy_16(to + i, from + i);
          }
        }
      }
    });
    source.next += TileShared<kGrey>::kTogether * source.stride;
  });
}

// Starts what has to be on its way before a tile's first step.
template <bool kGrey, typename Block, typename Sources>
TI_HOST_DEVICE void start_tile(const Block& block, const TileStep& step, const Tile& tile,
                               Sources* sources, TileShared<kGrey>* shared) {
  const int steps = tile_steps(step);
  block.for_each_warp(
      [&](const auto& warp) { sources->of(warp) = source_of<kGrey>(step, tile, warp.index); });
#pragma unroll 1
  for (int i = 0; i < TileShared<kGrey>::kStages - 1; ++i) {
    copy_steps(block, i * TileShared<kGrey>::kTogether, steps, sources, shared->stage[i]);
    block.end_of_copies();
  }
}

}  // namespace torch_init
