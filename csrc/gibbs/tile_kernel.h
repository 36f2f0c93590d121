// SPDX-License-Identifier: Apache-2.0
//
// One half-step of a layer of any size: a matrix product on the tensor cores whose epilogue
// samples. A block of threads makes tiles of 16 units x 256 chains, each of its four warps 64 of
// the chains: a weight is three bytes and a state is a bit, so that many chains to a unit keep
// what passes from the L2 cache, and from shared memory, small. Tiles of 16 units split most layers
// evenly over a GPU. Thresholds, which need no sum, are made on the way, while the tensor cores
// multiply.
#pragma once

#include <type_traits>

#include "gibbs/tile_input.h"

namespace torch_init {

// A lane's part of the states of a step: chain 8 g + n is column g of product n.
template <typename Warp>
struct HeldStates {
  typename Warp::template Lanes<uint32_t, kTileProducts> words;

  TI_HOST_DEVICE_MEMBER HeldStates(const Warp& warp, const uint8_t* of_warp) {
    warp.for_each_lane([&](int lane) {
      const uint8_t* const at = of_warp + lane / 4 * sizeof(uint32_t) * kTileProducts;
      memcpy(words.of(lane), __builtin_assume_aligned(at, 16), sizeof(uint32_t) * kTileProducts);
    });
  }
  TI_HOST_DEVICE_MEMBER void operator()(int lane, int product, uint32_t out[2]) const {
    bytes_of_bits(lane, words.of(lane)[product], out);
  }
};

struct GreyStates {
  const uint8_t* levels;  // of the warp, at place_of_levels

  TI_HOST_DEVICE_MEMBER void operator()(int lane, int product, uint32_t out[2]) const {
    const uint8_t* const at = levels + (product * kWarpLanes + lane) * 8;
    memcpy(out, __builtin_assume_aligned(at, 8), 8);
  }
};

// Makes a turn of a warp's thresholds.
template <typename Warp>
TI_HOST_DEVICE void make_thresholds(const Warp& warp, const TileStep& step, const Tile& tile,
                                    int turn, const float* rows, WarpThresholds* out) {
  const auto first_chain = static_cast<uint32_t>(warp_chain(tile, warp.index));
  const auto first_block = static_cast<uint32_t>(tile.half * kQuadsOfTile);
  warp.for_each_lane([&](int lane) {
    const int block = lane % 2 + lane / 8 % 2 * 2;
    const int chain = lane / 2 % 4 * 16 + 2 * turn + lane / 16;
    out->of[turn][lane] = four_thresholds(
        step.task, step.keys, step.half_step, first_chain + static_cast<uint32_t>(chain),
        first_block + static_cast<uint32_t>(block), CopiedRows{rows, lane % kTableCopies});
  });
}

// Those of units 2 g and 2 g + 1, which a lane has sums of, of chain 8 (2 t + odd) + n: with
// make_thresholds, lanes reach different banks of shared memory.
TI_HOST_DEVICE void take_thresholds(const WarpThresholds& thresholds, int lane, int n, int odd,
                                    int32_t out[2]) {
  const int g = lane / 4;
  const int of_lane = lane % 4 * 2 + g / 2 % 2 + g / 4 * 8 + n % 2 * 16;
  const FourThresholds& four = thresholds.of[n / 2 + odd * 4][of_lane];
  memcpy(out, __builtin_assume_aligned(four.of + g % 2 * 2, 8), 8);
}

template <typename Warp>
using TileSums = LimbSums<1, kTileProducts, Warp>;

// One of a block's warps multiplies step k.
template <bool kGrey, typename Warp>
TI_HOST_DEVICE void multiply_step(const Warp& warp, int k, const TileInput<kGrey>& input,
                                  TileSums<Warp>* sums) {
  const uint8_t* const states =
      input.bytes + kHalfBytes + warp.index * TileInput<kGrey>::kStatesOfWarp;
  if constexpr (kGrey) {
    multiply_block<1, kTileProducts>(warp, input.bytes, GreyStates{states}, sums);
    if ((k + 1) % kStepsToCarry == 0) carry_limbs<1, kTileProducts>(warp, sums);
  } else {
    multiply_block<1, kTileProducts>(warp, input.bytes, HeldStates<Warp>(warp, states), sums);
  }
}

// Returns how many turns of thresholds have been made on the way.
template <bool kGrey, typename Block, typename Sources, typename Sums>
TI_HOST_DEVICE int multiply_tile(const Block& block, const TileStep& step, const Tile& tile,
                                 Sources* sources, TileShared<kGrey>* shared, Sums* sums) {
  constexpr int kStages = TileShared<kGrey>::kStages;
  constexpr int kTogether = TileShared<kGrey>::kTogether;
  const int steps = tile_steps(step);
  block.for_each_warp([&](const auto& warp) { sums->of(warp) = {}; });
  int turns = 0;
  int stage = 0;
  int free = kStages - 1;
#pragma unroll 1
  for (int k = 0; k < steps; k += kTogether) {
    block.template wait_for_copies<kStages - 2>();
    // Everybody's copies of this stage are there, and the one before has been read.
    block.barrier();
    copy_steps(block, k + (kStages - 1) * kTogether, steps, sources, shared->stage[free]);
    block.end_of_copies();
    block.for_each_warp([&](const auto& warp) {
      if (warp.index >= tile.warps) return;
#pragma unroll
      for (int s = 0; s < kTogether; ++s) {
        if (s > 0 && k + s >= steps) break;
        multiply_step(warp, k + s, shared->stage[stage][s], &sums->of(warp));
      }
      if (!kGrey && turns < kThresholdTurns) {
        make_thresholds(warp, step, tile, turns, shared->rows, shared->thresholds_of(warp.index));
      }
    });
    if (!kGrey && turns < kThresholdTurns) ++turns;
    free = stage;
    stage = stage + 1 < kStages ? stage + 1 : 0;
  }
  block.barrier();
  return turns;
}

// Whether the half-step compares fields with thresholds, and that is all.
TI_HOST_DEVICE bool only_compares(const TileStep& step, int to) {
  const bool clamps = to == kVisible && step.task.clamped != nullptr;
  return !tempered(step.task, to) && !clamps && !writes_means(step.task, step.half_step);
}

// The words that have a tile's units among theirs, by chain.
TI_HOST_DEVICE uint32_t* words_of(const TileStep& step, const Tile& tile) {
  return step.bits[tile.to] + tile.half / 2 * padded_chains(step.task);
}

// Whether no other tile writes these words.
TI_HOST_DEVICE bool has_words_alone(const TileStep& step, const Tile& tile) {
  return tile.half % 2 == 0 && tile.half + 1 == halves_of(step.task.side[tile.to].units);
}

// Where a tile's units are in a word: another block may be writing the other half.
TI_HOST_DEVICE uint8_t* half_of(const Tile& tile, uint32_t* word) {
  return reinterpret_cast<uint8_t*>(word) + tile.half % 2 * sizeof(uint16_t);
}

TI_HOST_DEVICE uint32_t load_half(const Tile& tile, uint32_t* word) {
  uint16_t half;
  memcpy(&half, __builtin_assume_aligned(half_of(tile, word), sizeof half), sizeof half);
  return half;
}

// Writes the bits of a tile's units, all of the word or the half of it that is the tile's.
TI_HOST_DEVICE void store_bits(const Tile& tile, bool alone, uint32_t* word, uint32_t bits) {
  if (alone) {
    *word = bits;
  } else {
    const auto half = static_cast<uint16_t>(bits);
    memcpy(__builtin_assume_aligned(half_of(tile, word), sizeof half), &half, sizeof half);
  }
}

// A lane samples two units of 16 chains, and ends up with all of the tile's units of two of them.
template <bool kOnlyCompare, typename Sum, typename Warp>
TI_HOST_DEVICE void sample_warp(const Warp& warp, const TileStep& step, const Tile& tile,
                                const WarpThresholds& thresholds, const TileSums<Warp>& of_limbs) {
  const GibbsTask& task = step.task;
  const SideWeights& side = task.side[tile.to];
  const int64_t first_unit = tile.half * kHalfUnits;
  const int64_t first_chain = warp_chain(tile, warp.index);
  WarpSums<1, kTileProducts, Warp, Sum> sums = combine_limbs<Sum, 1, kTileProducts>(warp, of_limbs);
  // By product, the chain 8 (2 t) + n in the lower and the chain 8 (2 t + 1) + n in the upper half.
  typename Warp::template Lanes<uint32_t, kTileProducts> words = {};
  typename Warp::template Lanes<int32_t, 2> bias = {};
  typename Warp::template Lanes<int32_t, 2> of_weights = {};
  warp.for_each_lane([&](int lane) {
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int64_t unit = first_unit + lane / 4 * 2 + k;
      if (unit < side.units) bias.of(lane)[k] = side.bias[unit];
      if (unit < side.units && task.spin[1 - tile.to] != 0) {
        of_weights.of(lane)[k] = side.sums[unit];
      }
    }
  });
#pragma unroll(kOnlyCompare ? kTileProducts : 1)
  for (int n = 0; n < kTileProducts; ++n) {
    warp.for_each_lane([&](int lane) {
      uint32_t word = 0;
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        int32_t threshold[2];
        take_thresholds(thresholds, lane, n, odd, threshold);
        const int64_t chain = first_chain + kTileProducts * (2 * (lane % 4) + odd) + n;
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          const int64_t unit = first_unit + lane / 4 * 2 + k;
          const Sum sum = sums.of(lane)[2 * odd + k];
          bool on = false;
          if constexpr (kOnlyCompare) {
            const Sum field =
                field_of_sum(task, tile.to, sum, bias.of(lane)[k], of_weights.of(lane)[k]);
            on = exceeds_threshold(field, threshold[k]);
          } else if (chain < task.chains && unit < side.units) {
            const uint32_t before = load_half(tile, words_of(step, tile) + chain);
            on = next_state(task, step.half_step, chain, unit, sum, threshold[k], bias.of(lane)[k],
                            of_weights.of(lane)[k], (before >> unit % kHalfUnits & 1u) != 0);
          }
          word |= on ? 1u << (kHalfUnits * odd + k) : 0u;
        }
      }
      // The next to the front: an index would force them into local memory.
#pragma unroll
      for (int i = 0; i + 1 < kTileProducts; ++i) {
        words.of(lane)[i] = words.of(lane)[i + 1];
#pragma unroll
        for (int k = 0; k < 4; ++k) sums.of(lane)[4 * i + k] = sums.of(lane)[4 * (i + 1) + k];
      }
      words.of(lane)[kTileProducts - 1] = word << lane / 4 * 2;
    });
  }
  if (!samples(task, step.half_step)) return;
  warp.or_among_rows_to_own(&words);
  const bool alone = has_words_alone(step, tile);
  uint32_t* const out = words_of(step, tile);
  warp.for_each_lane([&](int lane) {
    const uint32_t word = words.of(lane)[0];
    const int64_t chain = first_chain + 2 * kTileProducts * (lane % 4) + lane / 4;
    uint32_t* const at = out + chain;
    if (chain < task.chains) store_bits(tile, alone, at, word & 0xffffu);
    if (chain + kTileProducts < task.chains) {
      store_bits(tile, alone, at + kTileProducts, word >> kHalfUnits);
    }
  });
}

template <bool kGrey, typename Warp>
TI_HOST_DEVICE void finish_warp(const Warp& warp, const TileStep& step, const Tile& tile, int turns,
                                TileShared<kGrey>* shared, const TileSums<Warp>& sums) {
  using Sum = std::conditional_t<kGrey, int64_t, int32_t>;
  if (warp.index >= tile.warps) return;
  WarpThresholds* const thresholds = shared->thresholds_of(warp.index);
#pragma unroll 1
  for (int turn = turns; turn < kThresholdTurns; ++turn) {
    make_thresholds(warp, step, tile, turn, shared->rows, thresholds);
  }
  warp.barrier();
  if (only_compares(step, tile.to)) {
    sample_warp<true, Sum>(warp, step, tile, *thresholds, sums);
  } else {
    sample_warp<false, Sum>(warp, step, tile, *thresholds, sums);
  }
  // Whoever writes thresholds again has met all threads at a barrier of the next tile's before.
}

// The block's share of the tiles. `rows` are the quantile table's.
template <bool kGrey, typename Block>
TI_HOST_DEVICE void half_step_tiles(const Block& block, const TileStep& step, const float* rows,
                                    TileShared<kGrey>* shared) {
  using Warp = typename Block::Warp;
  block.let_next_grid_start();
  block.for_each_thread([&](int thread) {
#pragma unroll 1
    for (int i = thread; i < kTableSize * kTableCopies / 4; i += kTileThreads) {
#pragma unroll
      for (int c = 0; c < 4; ++c) shared->rows[4 * i + c] = rows[i / kTableCopies * 4 + c];
    }
  });
  block.wait_for_previous_grid();
  const auto tiles = static_cast<uint32_t>(tile_count(step));
  const auto blocks = static_cast<uint32_t>(block.count());
  auto index = static_cast<uint32_t>(block.index());
  typename Block::template PerWarp<WarpSource> sources;
  if (index < tiles) start_tile(block, step, tile_at(step, index), &sources, shared);
#pragma unroll 1
  for (; index < tiles; index += blocks) {
    const Tile tile = tile_at(step, index);
    typename Block::template PerWarp<TileSums<Warp>> sums;
    const int turns = multiply_tile(block, step, tile, &sources, shared, &sums);
    const uint32_t next = index + blocks;
    const auto start_next = [&] {
      if (next < tiles) start_tile(block, step, tile_at(step, next), &sources, shared);
    };
    if (!kGrey) start_next();
    block.for_each_warp([&](const Warp& warp) {
      finish_warp<kGrey>(warp, step, tile, turns, shared, sums.of(warp));
    });
    if (kGrey) {
      block.barrier();
      start_next();
    }
  }
}

}  // namespace torch_init
