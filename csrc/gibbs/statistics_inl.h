// SPDX-License-Identifier: Apache-2.0
//
// Statistics for every tier, in vectors of TI_VECTOR_BYTES: a visible unit's row is the sum of the
// hidden rows of the chains that have it on.
#pragma once

#include <string.h>

#include "gibbs/statistics.h"

namespace torch_init {
namespace {

// Hidden states, added up in bytes.
struct StateRows {
  typedef uint8_t Hidden;
  typedef uint8_t Sum;
  typedef uint8_t Vector __attribute__((vector_size(TI_VECTOR_BYTES)));
  static constexpr int kVectors = 4;
  static constexpr int64_t kMostChains = 255;  // as many as a byte counts

  static void add(const Hidden* row, int32_t, Vector& total) {
    Vector on;
    memcpy(&on, row, sizeof on);
    total += on;
  }
};

// Hidden means, added up in 32 bits; kGrey: times the visible unit's level.
template <bool kGrey>
struct MeanRows {
  typedef int16_t Hidden;
  typedef int32_t Sum;
  typedef int32_t Vector __attribute__((vector_size(TI_VECTOR_BYTES)));
  static constexpr int kVectors = 8;
  static constexpr int64_t kMostChains = kGrey ? 256 : 65536;

  static void add(const Hidden* row, int32_t level, Vector& total) {
    typedef int16_t Half __attribute__((vector_size(TI_VECTOR_BYTES / 2)));
    Half means;
    memcpy(&means, row, sizeof means);
    const Vector wide = __builtin_convertvector(means, Vector);
    total += kGrey ? wide * level : wide;
  }
};

template <typename Rows, typename Out>
class StatisticsRow {
 public:
  StatisticsRow(const StatisticsTask& task, int64_t unit, const int32_t* chains, int64_t count)
      : task_(task), unit_(unit), chains_(chains), count_(count) {}

  void run() {
    begin_ = 0;
    do {  // once even without a chain: zeros must be written
      end_ = count_ - begin_ < Rows::kMostChains ? count_ : begin_ + Rows::kMostChains;
      int64_t j = 0;
      constexpr int64_t kUnits = Rows::kVectors * kLanes;
      for (; j + kUnits <= task_.units[1]; j += kUnits) add_tile<Rows::kVectors>(j, kUnits);
      for (; j < task_.units[1]; j += kLanes) {
        const int64_t left = task_.units[1] - j;
        add_tile<1>(j, left < kLanes ? left : kLanes);
      }
      begin_ = end_;
    } while (begin_ < count_);
  }

 private:
  typedef typename Rows::Vector Vector;
  static constexpr int64_t kLanes = sizeof(Vector) / sizeof(typename Rows::Sum);

  // kVectors vectors of hidden units from unit j on, of which n exist.
  template <int kVectors>
  void add_tile(int64_t j, int64_t n) const {
    const typename Rows::Hidden* const hidden =
        static_cast<const typename Rows::Hidden*>(task_.hidden) + j;
    Vector total[kVectors] = {};
    for (int64_t i = begin_; i < end_; ++i) {
      const int64_t chain = chains_[i];
      const int32_t level = task_.visible[chain * task_.units[0] + unit_];
      const typename Rows::Hidden* const row = hidden + chain * task_.hidden_stride;
      for (int v = 0; v < kVectors; ++v) Rows::add(row + v * kLanes, level, total[v]);
    }
    typename Rows::Sum sums[kVectors * kLanes];
    memcpy(sums, total, sizeof sums);
    const Out weight = static_cast<Out>(task_.weight);
    Out* __restrict const out = static_cast<Out*>(task_.out) + unit_ * task_.units[1] + j;
    if (begin_ == 0 && task_.accumulate == 0) {
      for (int64_t u = 0; u < n; ++u) out[u] = weight * static_cast<Out>(sums[u]);
    } else {
      for (int64_t u = 0; u < n; ++u) out[u] += weight * static_cast<Out>(sums[u]);
    }
  }

  const StatisticsTask& task_;
  const int64_t unit_;
  const int32_t* const chains_;  // those that have the unit on
  const int64_t count_;
  int64_t begin_ = 0;  // of the chains that fit a Sum
  int64_t end_ = 0;
};

template <typename Rows>
void statistics_row(const StatisticsTask& task, int64_t unit, const int32_t* chains,
                    int64_t count) {
  if (task.wide != 0) {
    StatisticsRow<Rows, int64_t>(task, unit, chains, count).run();
  } else {
    StatisticsRow<Rows, int32_t>(task, unit, chains, count).run();
  }
}

inline void statistics_rows(const StatisticsTask& task, int64_t first, int64_t count,
                            int32_t* scratch) {
  int64_t on[kStatisticsUnits] = {};
  int64_t sums[kStatisticsUnits] = {};
  for (int64_t c = 0; c < task.chains; ++c) {
    const uint8_t* states = task.visible + c * task.units[0] + first;
    for (int64_t i = 0; i < count; ++i) {
      scratch[i * task.chains + on[i]] = static_cast<int32_t>(c);
      on[i] += states[i] != 0;
      sums[i] += states[i];
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    const int32_t* const chains = scratch + i * task.chains;
    if (task.hidden_kind == HiddenKind::kStates) {
      statistics_row<StateRows>(task, first + i, chains, on[i]);
    } else if (task.grey == 0) {
      statistics_row<MeanRows<false>>(task, first + i, chains, on[i]);
    } else {
      statistics_row<MeanRows<true>>(task, first + i, chains, on[i]);
    }
    if (task.visible_sums != nullptr) task.visible_sums[first + i] = sums[i];
  }
}

constexpr StatisticsKernels kStatisticsKernels = {statistics_rows};

}  // namespace
}  // namespace torch_init
