// SPDX-License-Identifier: Apache-2.0
//
// All half-steps of a few chains in one launch, for layers whose weights fit into the shared memory
// of a cluster of thread blocks. Chains are independent, so each cluster has chains of its own and
// meets nobody. Its blocks hold the weights of every size-th group of 32 units, of both sides, and
// the states of all units: what a block has sampled it writes to every block of the cluster. A
// half-step is
//
//     multiply    the warps of a block share its groups and the steps; sums meet in shared memory
//     sample      a lane samples four units of a chain, eight lanes write their word
//     thresholds  of the next half-step, while the barrier of the cluster is under way
#pragma once

#include "gibbs/shared_sums.h"
#include "portable/block_cluster.h"

namespace torch_init {

// kChains, those of a cluster, is 8, 16 or 32: known to the compiler, as the number of blocks is
// known to be a power of two, for want of instructions that divide.
struct ClusterTask {
  GibbsTask task;
  int32_t size_bits;  // a cluster has 2^size_bits blocks
};

template <int kChains>
TI_HOST_DEVICE int64_t cluster_count(const GibbsTask& task) {
  return (task.chains + kChains - 1) / kChains;
}

// What is kept of both sides, without an array: an index would force it into local memory.
template <typename T>
struct OfSides {
  T visible;
  T hidden;

  TI_HOST_DEVICE_MEMBER const T& of(int side) const { return side == kVisible ? visible : hidden; }
};

// A block's shared memory.
struct ClusterShared {
  OfSides<uint8_t*> weights;     // [groups of the block][steps][kBlockBytes]
  OfSides<uint32_t*> bits;       // [groups][kChains]
  OfSides<int32_t*> bias;        // [groups of the block][32]
  OfSides<int32_t*> of_weights;  // [groups of the block][32]: sums of a unit's weights
  int32_t* sums;                 // [groups of the block][kChains][kSumsOfChain]
  FourThresholds* thresholds;    // [groups of the block][kChains / 4][lanes]
  float* rows;
  int64_t size;
};

TI_HOST_DEVICE int64_t most_groups_of_block(const ClusterTask& cluster, int side) {
  const int64_t size = int64_t{1} << cluster.size_bits;
  return (groups_of(cluster.task.side[side].units) + size - 1) >> cluster.size_bits;
}

template <int kChains>
TI_HOST_DEVICE ClusterShared shared_memory_of(const ClusterTask& cluster, uint8_t* memory) {
  constexpr int64_t kInt = sizeof(int32_t);
  const int64_t groups[2] = {most_groups_of_block(cluster, kVisible),
                             most_groups_of_block(cluster, kHidden)};
  const int64_t rows = (groups[0] > groups[1] ? groups[0] : groups[1]) * kChains;
  int64_t at = 0;
  const auto take = [&](int64_t bytes) {
    uint8_t* const taken = memory + at;
    at += (bytes + 15) / 16 * 16;
    return taken;
  };
  const auto take_ints = [&](int64_t count) {
    return reinterpret_cast<int32_t*>(take(count * kInt));
  };
  const auto take_weights = [&](int side) {
    return take(groups[side] * groups_of(cluster.task.side[side].sources) * kBlockBytes);
  };
  const auto take_bits = [&](int side) {
    const int64_t words = groups_of(cluster.task.side[side].units) * kChains;
    return reinterpret_cast<uint32_t*>(take(words * kInt));
  };
  ClusterShared shared;
  shared.weights = {take_weights(kVisible), take_weights(kHidden)};
  shared.bits = {take_bits(kVisible), take_bits(kHidden)};
  shared.bias = {take_ints(groups[0] * kGroupUnits), take_ints(groups[1] * kGroupUnits)};
  shared.of_weights = {take_ints(groups[0] * kGroupUnits), take_ints(groups[1] * kGroupUnits)};
  shared.sums = take_ints(rows * kSumsOfChain);
  shared.thresholds = reinterpret_cast<FourThresholds*>(take(rows * kGroupUnits * kInt));
  shared.rows = reinterpret_cast<float*>(take(kTableSize * kInt));
  shared.size = at;
  return shared;
}

// What a block of the cluster is about.
struct ClusterBlock {
  const ClusterTask& cluster;
  int rank;
  int64_t first_chain;
  ClusterShared shared;

  // How many groups of units are the block's, and which.
  TI_HOST_DEVICE_MEMBER int groups(int side) const {
    const int all = static_cast<int>(groups_of(cluster.task.side[side].units));
    const int size = 1 << cluster.size_bits;
    return (all - rank + size - 1) >> cluster.size_bits;
  }
  TI_HOST_DEVICE_MEMBER int group(int own) const { return (own << cluster.size_bits) + rank; }
};

template <int kChains, typename Block>
TI_HOST_DEVICE void load_side(const Block& block, const ClusterBlock& own, int s) {
  const GibbsTask& task = own.cluster.task;
  const SideWeights& side = task.side[s];
  const int groups = own.groups(s);
  const int64_t bytes = groups_of(side.sources) * kBlockBytes;
  for (int g = 0; g < groups; ++g) {
    const uint8_t* const from = side.limbs + own.group(g) * bytes;
    uint8_t* const to = own.shared.weights.of(s) + g * bytes;
    share_in_block(block, bytes / 16,
                   [&](int64_t i) { block.copy_16(to + i * 16, from + i * 16); });
  }
  share_in_block(block, groups * kGroupUnits, [&](int64_t i) {
    const int64_t group = own.group(static_cast<int>(i / kGroupUnits));
    const int64_t unit = group * kGroupUnits + i % kGroupUnits;
    own.shared.bias.of(s)[i] = unit < side.units ? side.bias[unit] : 0;
    own.shared.of_weights.of(s)[i] = unit < side.units ? side.sums[unit] : 0;
  });
  const bool given = must_pack(task, s);
  share_in_block(block, groups_of(side.units) * kChains, [&](int64_t i) {
    const int64_t chain = own.first_chain + i % kChains;
    own.shared.bits.of(s)[i] = given ? bits_of_states(task, s, i / kChains, chain) : 0;
  });
  share_in_block(block, groups * kChains * kSumsOfChain,
                 [&](int64_t i) { own.shared.sums[i] = 0; });
}

template <int kChains, typename Block>
TI_HOST_DEVICE void multiply_in_cluster(const Block& block, const ClusterBlock& own, int to) {
  using Warp = typename Block::Warp;
  constexpr int kProducts = kChains / kChainsOfProduct;
  const ClusterShared& shared = own.shared;
  const int groups = own.groups(to);
  const int steps = static_cast<int>(groups_of(own.cluster.task.side[to].sources));
  // Each team of warps takes a group at a time, whose steps its warps deal out among themselves.
  const int team_bits = groups < 2 ? 3 : groups == 2 ? 2 : groups < 5 ? 1 : 0;
  static_assert(kGibbsWarps == 8, "the largest teams that make do with so many warps");
  block.for_each_warp([&](const Warp& warp) {
    for (int g = warp.index >> team_bits; g < groups; g += kGibbsWarps >> team_bits) {
      LimbSums<2, kProducts, Warp> limbs = {};
      for (int k = warp.index & ((1 << team_bits) - 1); k < steps; k += 1 << team_bits) {
        multiply_block<2, kProducts>(warp, shared.weights.of(to) + (g * steps + k) * kBlockBytes,
                                     BitStates{shared.bits.of(1 - to) + k * kChains}, &limbs);
      }
      add_to_shared(block, warp, combine_limbs<int32_t, 2, kProducts>(warp, limbs),
                    shared.sums + g * kChains * kSumsOfChain);
    }
  });
}

// Calls body(warp, i, group, quad) for what warps sample: four chains of a group at a time.
template <int kChains, typename Block, typename Body>
TI_HOST_DEVICE void share_samples(const Block& block, const ClusterBlock& own, int to,
                                  const Body& body) {
  constexpr int kQuads = kChains / 4;
  block.for_each_warp([&](const typename Block::Warp& warp) {
    for (int i = warp.index; i < own.groups(to) * kQuads; i += kGibbsWarps) {
      body(warp, i, i / kQuads, i % kQuads);
    }
  });
}

template <int kChains, typename Block>
TI_HOST_DEVICE void thresholds_in_cluster(const Block& block, const ClusterBlock& own,
                                          int64_t half_step) {
  const GibbsTask& task = own.cluster.task;
  const SharedRows rows = {own.shared.rows};
  share_samples<kChains>(
      block, own, side_of(task, half_step), [&](const auto& warp, int i, int g, int quad) {
        warp.for_each_lane([&](int lane) {
          const int64_t chain = own.first_chain + 4 * quad + lane % 4;
          const int64_t unit = own.group(g) * kGroupUnits + lane / 4 * kUnitsOfBlock;
          own.shared.thresholds[i * kWarpLanes + lane] =
              thresholds_of(task, half_step, chain, unit, rows);
        });
      });
}

template <int kChains, typename Cluster, typename Block>
TI_HOST_DEVICE void sample_in_cluster(Cluster& cluster, const Block& block, const ClusterBlock& own,
                                      int64_t half_step) {
  const GibbsTask& task = own.cluster.task;
  const ClusterShared& shared = own.shared;
  const int to = side_of(task, half_step);
  share_samples<kChains>(block, own, to, [&](const auto& warp, int i, int g, int quad) {
    uint32_t* const bits = shared.bits.of(to) + own.group(g) * kChains + 4 * quad;
    typename Block::Warp::template Lanes<uint32_t, 1> word;
    warp.for_each_lane([&](int lane) {
      const int chain = 4 * quad + lane % 4;
      const int first = lane / 4 * kUnitsOfBlock;
      int32_t sum[kUnitsOfBlock];
      take_from_shared(shared.sums, g * kChains + chain, lane / 4, sum);
      const int unit = g * kGroupUnits + first;  // of the block's
      const UnitConstants constants = {shared.bias.of(to) + unit, shared.of_weights.of(to) + unit};
      *word.of(lane) = 0;
      if (own.first_chain + chain < task.chains) {
        const uint32_t on = four_states(
            task, half_step, own.first_chain + chain, own.group(g) * kGroupUnits + first, sum,
            shared.thresholds[i * kWarpLanes + lane], constants, bits[lane % 4] >> first);
        *word.of(lane) = on << first;
      }
    });
    warp.or_among_rows(&word);
    if (!samples(task, half_step)) return;
    warp.for_each_lane([&](int lane) {
      for (int rank = lane / 4; rank < 1 << own.cluster.size_bits; rank += kWarpLanes / 4) {
        *cluster.in_block(bits + lane % 4, own.rank, rank) = *word.of(lane);
      }
    });
  });
}

template <int kChains, typename Block>
TI_HOST_DEVICE void store_side(const Block& block, const ClusterBlock& own, int s) {
  const GibbsTask& task = own.cluster.task;
  if (!must_unpack(task, s)) return;
  share_in_block(block, own.groups(s) * kChains, [&](int64_t i) {
    const int64_t group = own.group(static_cast<int>(i / kChains));
    const uint32_t bits = own.shared.bits.of(s)[group * kChains + i % kChains];
    states_of_bits(task, s, group, own.first_chain + i % kChains, bits);
  });
}

// `rows` are the quantile table's. A block's shared memory has the size of ClusterShared.
template <int kChains, typename Cluster>
TI_HOST_DEVICE void run_cluster(Cluster& cluster, const ClusterTask& task, const float* rows) {
  const auto for_each_block = [&](const auto& body) {
    cluster.for_each_block([&](const auto& block, int rank, uint8_t* memory) {
      body(block, ClusterBlock{task, rank, cluster.index() * kChains,
                               shared_memory_of<kChains>(task, memory)});
    });
  };
  for_each_block([&](const auto& block, const ClusterBlock& own) {
    load_side<kChains>(block, own, kVisible);
    load_side<kChains>(block, own, kHidden);
    share_in_block(block, kTableSize, [&](int64_t i) { own.shared.rows[i] = rows[i]; });
    block.end_of_copies();
    block.template wait_for_copies<0>();
    block.barrier();
    thresholds_in_cluster<kChains>(block, own, 0);
  });
  // Everybody is there to be written to.
  cluster.arrive();
  cluster.wait();
  for (int64_t n = 0; n < task.task.half_steps; ++n) {
    const int to = side_of(task.task, n);
    for_each_block([&](const auto& block, const ClusterBlock& own) {
      multiply_in_cluster<kChains>(block, own, to);
      block.barrier();
      sample_in_cluster<kChains>(cluster, block, own, n);
    });
    cluster.arrive();
    if (n + 1 < task.task.half_steps) {
      for_each_block([&](const auto& block, const ClusterBlock& own) {
        thresholds_in_cluster<kChains>(block, own, n + 1);
      });
    }
    cluster.wait();
  }
  for_each_block([&](const auto& block, const ClusterBlock& own) {
    store_side<kChains>(block, own, kVisible);
    store_side<kChains>(block, own, kHidden);
  });
}

}  // namespace torch_init
