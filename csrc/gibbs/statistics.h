// SPDX-License-Identifier: Apache-2.0
//
// The sufficient statistics of binary units, v^T h, of sampled states or of means in fixed point:
// integers, whatever the order.
#pragma once

#include "portable/portable.h"

namespace torch_init {

enum class HiddenKind : int32_t {
  kStates = 0,  // uint8, 0 or 1; visible states are 0 or 1, too
  kMeans = 1,   // int16, 0 ... kMeanOne
};

// States of some chains, and the integer by which their statistics are multiplied.
struct StatisticsTerm {
  const uint8_t* visible;  // [chains][units[0]]: 0 or 1; with `grey` levels of 255
  const void* hidden;      // [chains][hidden_stride]
  HiddenKind hidden_kind;
  int32_t grey;           // goes with means
  const int16_t* fine;    // [chains][units[0]], fine levels instead of `visible`; goes with means
  int64_t hidden_stride;  // at least units[1]; for a tier's kernel with room for whole vectors
  int64_t chains;
  int64_t weight;
  int64_t* visible_sums;  // [units[0]], of v, and [units[1]], of h
  int64_t* hidden_sums;
};

constexpr int kMostTerms = 2;

struct StatisticsTask {
  StatisticsTerm term[kMostTerms];
  int32_t terms;
  int64_t units[2];
  // The terms' weight * v^T h, added up, or with `accumulate` added to what is there.
  // [units[0]][units[1]], int32, or with `wide` int64; what fits is the caller's to see to.
  void* out;
  int32_t wide;
  int32_t accumulate;
};

// Visible units that one call of a tier's kernel takes.
constexpr int64_t kStatisticsUnits = 64;
// The most hidden units that a tier reads at once: rows have room for a multiple of them.
constexpr int64_t kWidestStatisticsTile = 128;
constexpr int64_t whole_tiles(int64_t hidden) {
  return (hidden + kWidestStatisticsTile - 1) / kWidestStatisticsTile * kWidestStatisticsTile;
}

// Chains of fine levels multiplied at a time: double would not hold the sums of 2^23 of them.
constexpr int64_t kFineChains = 512;
// Hidden units that a tier takes at once, at most.
constexpr int64_t kMostFineUnits = 32;

// Bytes of scratch memory for a term.
inline int64_t statistics_scratch(const StatisticsTerm& term, int64_t hidden) {
  if (term.fine == nullptr) return kStatisticsUnits * term.chains * 4;
  const int64_t chains = term.chains < kFineChains ? term.chains : kFineChains;
  const int64_t levels = (kStatisticsUnits + kMostFineUnits) * chains;
  return (levels + kStatisticsUnits * whole_tiles(hidden)) * 8;
}

struct StatisticsKernels {
  // Rows first ... first + count - 1 of `out`, and their sums.
  void (*run)(const StatisticsTask& task, int64_t first, int64_t count, char* scratch);
};

void host_statistics(const StatisticsTask& task, const StatisticsKernels& kernels, int max_threads);

}  // namespace torch_init
