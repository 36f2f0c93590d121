// SPDX-License-Identifier: Apache-2.0
//
// v^T h on the tensor cores, for host and device (portable/thread_block.h). A block of threads
// makes a tile of 64 visible x 128 hidden units, each of its eight warps 32 x 32 of it, 32 chains
// at a time: what lies in memory chain after chain is put into shared memory unit after unit. A
// mean in fixed point is two bytes, whose products are added up apart.
#pragma once

#include "gibbs/statistics.h"
#include "portable/thread_block.h"

namespace torch_init {

struct ProductTask {
  const uint8_t* visible;  // [chains][units[0]]: states, or levels of 255
  const void* hidden;      // [chains][units[1]]: bytes or, with `means`, int16, not negative
  void* out;               // [units[0]][units[1]]: int32, or with `wide` int64
  int64_t chains;
  int64_t units[2];
  int32_t means;
  int32_t wide;
  int32_t accumulate;  // out += weight * v^T h, instead of =
  int64_t weight;
};

// Of one or two terms, alike in everything but their chains, weights and `accumulate`.
struct ProductTasks {
  ProductTask term[kMostTerms];
  int32_t terms;
  int64_t* sums;  // [terms][units[0], then units[1]]: of v and of h
};

constexpr int kStatisticsThreads = 256;
constexpr int kTileVisible = 64;
constexpr int kTileHidden = 128;
constexpr int kStatisticsChains = 32;
// After so many chains a tile's sums, at most 255^2 a chain, are added to the result.
constexpr int64_t kChainsToAdd = 1 << 15;
// Words of four chains that a unit has, and a gap, so that eight units lie in different banks.
constexpr int kChainWords = kStatisticsChains / 4;
constexpr int kUnitWords = kChainWords + 4;

template <int kBytes>
struct StatisticsShared {
  uint32_t visible[kTileVisible][kUnitWords];
  uint32_t hidden[kBytes][kTileHidden][kUnitWords];
};

TI_HOST_DEVICE int64_t statistics_tiles_across(const ProductTask& task) {
  return (task.units[1] + kTileHidden - 1) / kTileHidden;
}

TI_HOST_DEVICE int64_t statistics_tiles(const ProductTask& task) {
  return (task.units[0] + kTileVisible - 1) / kTileVisible * statistics_tiles_across(task);
}

// What lies in memory of one side: [chains][stride].
template <typename Number>
struct ChainRows {
  const Number* first;
  int64_t stride;
  int64_t units;
};

// Puts kUnits units from `unit` on, of kStatisticsChains chains from `begin` on, into shared
// memory, byte after byte of each number; zeros beyond the last unit, and from chain `end` on.
template <int kUnits, typename Block, typename Number>
TI_HOST_DEVICE void gather_chains(const Block& block, const ChainRows<Number>& rows, int64_t unit,
                                  int64_t begin, int64_t end, uint32_t (*out)[kUnits][kUnitWords]) {
  constexpr int kBytes = sizeof(Number);
  constexpr int kEach = kUnits * kChainWords / kStatisticsThreads;
  static_assert(kUnits * kChainWords % kStatisticsThreads == 0, "as many for each thread");
  const int left =
      static_cast<int>(end - begin < kStatisticsChains ? end - begin : kStatisticsChains);
  block.for_each_thread([&](int thread) {
    const int64_t u = unit + thread % kUnits;
    const int chains = u < rows.units ? left : 0;
    const Number* const first = rows.first + begin * rows.stride + u;
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      const int item = k * kStatisticsThreads + thread;
      const int chain = item / kUnits * 4;
      uint32_t words[kBytes] = {};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (chain + i < chains) {
          const auto number = static_cast<uint32_t>(first[(chain + i) * rows.stride]);
#pragma unroll
          for (int b = 0; b < kBytes; ++b) words[b] |= (number >> (8 * b) & 255u) << (8 * i);
        }
      }
#pragma unroll
      for (int b = 0; b < kBytes; ++b) out[b][item % kUnits][item / kUnits] = words[b];
    }
  });
}

// Of each byte, two halves of 16 visible units and four times 8 hidden units the four sums of a
// fragment D.
template <int kBytes, typename Warp>
using StatisticsSums = typename Warp::template Lanes<int32_t, kBytes * 2 * 4 * 4>;

TI_HOST_DEVICE int warp_visible(int warp) { return warp % 2 * 32; }
TI_HOST_DEVICE int warp_hidden(int warp) { return warp / 2 * 32; }

template <int kBytes, typename Warp>
TI_HOST_DEVICE void multiply_chains(const Warp& warp, const StatisticsShared<kBytes>& shared,
                                    StatisticsSums<kBytes, Warp>* sums) {
  typename Warp::template Lanes<uint32_t, kBytes * 8> hidden;
  warp.for_each_lane([&](int lane) {
#pragma unroll
    for (int i = 0; i < kBytes * 4; ++i) {
      const int unit = warp_hidden(warp.index) + 8 * (i % 4) + lane / 4;
      hidden.of(lane)[2 * i] = shared.hidden[i / 4][unit][lane % 4];
      hidden.of(lane)[2 * i + 1] = shared.hidden[i / 4][unit][lane % 4 + 4];
    }
  });
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    typename Warp::template Lanes<uint32_t, 4> visible;
    warp.for_each_lane([&](int lane) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int unit = warp_visible(warp.index) + 16 * half + lane / 4 + r % 2 * 8;
        visible.of(lane)[r] = shared.visible[unit][lane % 4 + r / 2 * 4];
      }
    });
#pragma unroll
    for (int i = 0; i < kBytes * 4; ++i) {
      const int at = ((i / 4 * 2 + half) * 4 + i % 4) * 4;
      warp.template multiply_add<false>(visible, hidden, 2 * i, sums, at);
    }
  }
}

template <typename Out, int kBytes, typename Warp>
TI_HOST_DEVICE void write_statistics(const Warp& warp, const ProductTask& task, int64_t visible,
                                     int64_t hidden, bool accumulate,
                                     const StatisticsSums<kBytes, Warp>& sums) {
  warp.for_each_lane([&](int lane) {
#pragma unroll
    for (int i = 0; i < 2 * 4 * 4; ++i) {
      const int64_t v = visible + warp_visible(warp.index) + i / 16 * 16 + lane / 4 + i % 4 / 2 * 8;
      const int64_t h = hidden + warp_hidden(warp.index) + i / 4 % 4 * 8 + lane % 4 * 2 + i % 2;
      int64_t sum = 0;
#pragma unroll
      for (int b = 0; b < kBytes; ++b) sum += int64_t{sums.of(lane)[b * 32 + i]} << (8 * b);
      if (v < task.units[0] && h < task.units[1]) {
        Out* const out = static_cast<Out*>(task.out) + v * task.units[1] + h;
        *out = static_cast<Out>((accumulate ? *out : 0) + task.weight * sum);
      }
    }
  });
}

// The tile that has the block's index, of hidden states or, two bytes each, means.
template <typename Hidden, typename Block>
TI_HOST_DEVICE void statistics_tile(const Block& block, const ProductTask& task,
                                    StatisticsShared<sizeof(Hidden)>* shared) {
  using Warp = typename Block::Warp;
  constexpr int kBytes = sizeof(Hidden);
  const int64_t across = statistics_tiles_across(task);
  const int64_t visible = block.index() / across * kTileVisible;
  const int64_t hidden = block.index() % across * kTileHidden;
  const ChainRows<uint8_t> of_visible = {task.visible, task.units[0], task.units[0]};
  const ChainRows<Hidden> of_hidden = {static_cast<const Hidden*>(task.hidden), task.units[1],
                                       task.units[1]};
  int64_t begin = 0;
  do {  // once even without a chain: zeros must be written
    const int64_t most = begin + kChainsToAdd;
    const int64_t end = task.chains < most ? task.chains : most;
    typename Block::template PerWarp<StatisticsSums<kBytes, Warp>> sums;
    block.for_each_warp([&](const Warp& warp) { sums.of(warp) = {}; });
    for (int64_t chain = begin; chain < end; chain += kStatisticsChains) {
      block.barrier();
      gather_chains<kTileVisible>(block, of_visible, visible, chain, end, &shared->visible);
      gather_chains<kTileHidden>(block, of_hidden, hidden, chain, end, shared->hidden);
      block.barrier();
      block.for_each_warp(
          [&](const Warp& warp) { multiply_chains<kBytes>(warp, *shared, &sums.of(warp)); });
    }
    const bool accumulate = task.accumulate != 0 || begin != 0;
    block.for_each_warp([&](const Warp& warp) {
      if (task.wide != 0) {
        write_statistics<int64_t, kBytes>(warp, task, visible, hidden, accumulate, sums.of(warp));
      } else {
        write_statistics<int32_t, kBytes>(warp, task, visible, hidden, accumulate, sums.of(warp));
      }
    });
    begin = end;
  } while (begin < task.chains);
}

// Units that a block adds up, and threads that share the chains of one.
constexpr int kSumUnits = 16;
constexpr int kSumThreads = kStatisticsThreads / kSumUnits;

struct UnitSumsShared {
  int64_t part[kSumThreads][kSumUnits];
};

TI_HOST_DEVICE int64_t unit_sum_blocks(int64_t units) {
  return (units + kSumUnits - 1) / kSumUnits;
}

TI_HOST_DEVICE int64_t statistics_blocks(const ProductTasks& tasks) {
  const ProductTask& first = tasks.term[0];
  const int64_t of_term = unit_sum_blocks(first.units[0]) + unit_sum_blocks(first.units[1]);
  return statistics_tiles(first) + tasks.terms * of_term;
}

template <typename Number, typename Block>
TI_HOST_DEVICE void sum_units(const Block& block, const ChainRows<Number>& rows, int64_t first,
                              int64_t chains, int64_t* out, UnitSumsShared* shared) {
  block.for_each_thread([&](int thread) {
    const int64_t unit = first + thread % kSumUnits;
    int64_t sum = 0;
    if (unit < rows.units) {
#pragma unroll 4
      for (int64_t chain = thread / kSumUnits; chain < chains; chain += kSumThreads) {
        sum += rows.first[chain * rows.stride + unit];
      }
    }
    shared->part[thread / kSumUnits][thread % kSumUnits] = sum;
  });
  block.barrier();
  block.for_each_thread([&](int thread) {
    if (thread >= kSumUnits || first + thread >= rows.units) return;
    int64_t sum = 0;
#pragma unroll
    for (int i = 0; i < kSumThreads; ++i) sum += shared->part[i][thread];
    out[first + thread] = sum;
  });
}

// What the block that has this index among those that add up units does.
template <typename Hidden, typename Block>
TI_HOST_DEVICE void sum_some_units(const Block& block, const ProductTasks& tasks, int64_t index,
                                   UnitSumsShared* shared) {
  const int64_t visible = tasks.term[0].units[0];
  const int64_t hidden = tasks.term[0].units[1];
  const int64_t of_visible = unit_sum_blocks(visible);
  const int64_t of_term = of_visible + unit_sum_blocks(hidden);
  const int64_t which = index / of_term;
  const ProductTask& task = tasks.term[which];
  int64_t* const out = tasks.sums + which * (visible + hidden);
  const int64_t at = index % of_term;
  if (at < of_visible) {
    const ChainRows<uint8_t> rows = {task.visible, visible, visible};
    sum_units(block, rows, at * kSumUnits, task.chains, out, shared);
  } else {
    const ChainRows<Hidden> rows = {static_cast<const Hidden*>(task.hidden), hidden, hidden};
    sum_units(block, rows, (at - of_visible) * kSumUnits, task.chains, out + visible, shared);
  }
}

template <typename Hidden, typename Block>
TI_HOST_DEVICE void statistics_block(const Block& block, const ProductTasks& tasks,
                                     StatisticsShared<sizeof(Hidden)>* shared,
                                     UnitSumsShared* of_units) {
  const int64_t tiles = statistics_tiles(tasks.term[0]);
  if (block.index() >= tiles) {
    sum_some_units<Hidden>(block, tasks, block.index() - tiles, of_units);
    return;
  }
#pragma unroll 1
  for (int i = 0; i < tasks.terms; ++i) {
    const ProductTask task = tasks.term[i];  // a copy takes fewer registers
    statistics_tile<Hidden>(block, task, shared);
  }
}

}  // namespace torch_init
