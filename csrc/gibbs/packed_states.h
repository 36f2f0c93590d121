// SPDX-License-Identifier: Apache-2.0
//
// States between the half-steps of a large batch, as bits:
//
//     [groups of 32 units][padded chains], bit i of a word is unit i of the group
//
// and how they come from and go to the bytes of a task. What lies beyond the last unit or chain is
// naught to nobody: weights are 0 there.
#pragma once

#include "gibbs/gibbs_kernel.h"
#include "gibbs/limb_product.h"

namespace torch_init {

// A tile's units and chains (tile_kernel.h), of which each of its warps takes some chains.
constexpr int kTileWarps = 4;
constexpr int kTileProducts = 8;
constexpr int kWarpChains = kTileProducts * kChainsOfProduct;
constexpr int kTileChains = kTileWarps * kWarpChains;

struct TileStep {
  GibbsTask task;
  PhiloxKeys keys;
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
  return {task, philox_keys(task.key), 0, {visible, hidden}, reinterpret_cast<uint8_t*>(end)};
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

// Where the levels of a warp's chain lie among those of its chains, and the other way round: chain
// 8 g + n, which a warp multiplies as column g of product n, is number 8 n + g.
TI_HOST_DEVICE int64_t place_of_levels(int64_t chain) {
  static_assert(kTileProducts == kChainsOfProduct, "a square");
  return chain / kWarpChains * kWarpChains + chain % kTileProducts * kTileProducts +
         chain % kWarpChains / kTileProducts;
}

// Of 32 levels, those that a lane has of a fragment B lie together.
template <typename Block>
TI_HOST_DEVICE void pack_levels(const Block& block, const TileStep& step) {
  const int64_t chains = padded_chains(step.task);
  const int64_t units = step.task.side[kVisible].units;
  share(block, level_items(step), [&](int64_t item) {
    const int at = static_cast<int>(item % kGroupUnits);
    const int64_t chain = place_of_levels(item / kGroupUnits % chains);
    const int64_t unit =
        item / kGroupUnits / chains * kGroupUnits + source_of_byte(at / 8, at / 4 % 2, at % 4);
    const bool exists = chain < step.task.chains && unit < units;
    step.levels[item] = exists ? step.task.state[kVisible][chain * units + unit] : uint8_t{0};
  });
}

}  // namespace torch_init
