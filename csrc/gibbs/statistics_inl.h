// SPDX-License-Identifier: Apache-2.0
//
// Statistics for every tier, in vectors of TI_VECTOR_BYTES: a visible unit's row is the sum of the
// hidden states of the chains that have it on, added up in bytes.
#pragma once

#include <string.h>

#include "gibbs/statistics.h"

namespace torch_init {
namespace {

typedef uint8_t Bytes __attribute__((vector_size(TI_VECTOR_BYTES)));
constexpr int kByteVectors = 4;
constexpr int64_t kByteTile = int64_t{kByteVectors} * TI_VECTOR_BYTES;
// As many states as a byte counts.
constexpr int64_t kByteChains = 255;

inline void add_counts(const StatisticsTask& task, const uint8_t* counts, int64_t n, bool first,
                       int32_t* out) {
  if (first && task.sign == 0) {
    for (int64_t j = 0; j < n; ++j) out[j] = counts[j];
  } else if (task.sign >= 0) {
    for (int64_t j = 0; j < n; ++j) out[j] += counts[j];
  } else {
    for (int64_t j = 0; j < n; ++j) out[j] -= counts[j];
  }
}

// kVectors vectors of hidden states from unit `hidden` on, of which n units exist.
template <int kVectors>
inline void add_tile(const StatisticsTask& task, const int32_t* chains, int64_t count,
                     int64_t hidden, int64_t n, bool first, int32_t* out) {
  Bytes total[kVectors] = {};
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t* row = task.hidden + chains[i] * task.hidden_stride + hidden;
    for (int v = 0; v < kVectors; ++v) {
      Bytes on;
      memcpy(&on, row + v * TI_VECTOR_BYTES, sizeof on);
      total[v] += on;
    }
  }
  uint8_t counts[kVectors * TI_VECTOR_BYTES];
  memcpy(counts, total, sizeof total);
  add_counts(task, counts, n, first, out);
}

inline void statistics_rows(const StatisticsTask& task, int64_t first, int64_t count,
                            int32_t* scratch) {
  int64_t on[kStatisticsUnits] = {};
  for (int64_t c = 0; c < task.chains; ++c) {
    const uint8_t* states = task.visible + c * task.units[0] + first;
    for (int64_t i = 0; i < count; ++i) {
      scratch[i * task.chains + on[i]] = static_cast<int32_t>(c);
      on[i] += states[i] != 0;
    }
  }
  const int64_t hidden_units = task.units[1];
  for (int64_t i = 0; i < count; ++i) {
    int32_t* const out = task.out + (first + i) * hidden_units;
    int64_t begin = 0;
    do {  // once even without a chain: zeros must be written
      const int64_t n = on[i] - begin < kByteChains ? on[i] - begin : kByteChains;
      const int32_t* const chains = scratch + i * task.chains + begin;
      int64_t j = 0;
      for (; j + kByteTile <= hidden_units; j += kByteTile) {
        add_tile<kByteVectors>(task, chains, n, j, kByteTile, begin == 0, out + j);
      }
      for (; j < hidden_units; j += TI_VECTOR_BYTES) {
        const int64_t left = hidden_units - j;
        const int64_t width = left < TI_VECTOR_BYTES ? left : TI_VECTOR_BYTES;
        add_tile<1>(task, chains, n, j, width, begin == 0, out + j);
      }
      begin += n;
    } while (begin < on[i]);
  }
}

constexpr StatisticsKernels kStatisticsKernels = {statistics_rows};

}  // namespace
}  // namespace torch_init
