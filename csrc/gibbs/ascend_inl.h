// SPDX-License-Identifier: Apache-2.0
//
// The step for every tier, in vectors of sixteen floats, which compilers split where registers are
// narrower.
#pragma once

#include <string.h>

#include "gibbs/ascend.h"
#include "gibbs/transpose.h"

namespace torch_init {
namespace {

constexpr int64_t kAscendLanes = 16;
typedef float AscendFloats __attribute__((vector_size(4 * kAscendLanes)));
typedef int32_t AscendInts __attribute__((vector_size(4 * kAscendLanes)));

// Values of `n` lanes; 0 in the others.
inline void read_lanes(const float* from, int64_t n, AscendFloats& to) {
  if (n == kAscendLanes) {
    memcpy(&to, from, sizeof to);
    return;
  }
  to = AscendFloats{};
  memcpy(&to, from, static_cast<size_t>(n) * sizeof(float));
}

inline void write_lanes(const AscendFloats& from, int64_t n, float* to) {
  if (n == kAscendLanes) {
    memcpy(to, &from, sizeof from);
  } else {
    memcpy(to, &from, static_cast<size_t>(n) * sizeof(float));
  }
}

// A tile of pairs, [visible][hidden], as floats [hidden][kAscendColumns].
template <typename Pair>
inline void transpose_pairs(const Pair* pairs, int64_t stride, int64_t columns, int64_t rows,
                            float* out) {
  int64_t i = 0;
  if constexpr (sizeof(Pair) == 4) {
    for (; i + 4 <= columns; i += 4) {
      int64_t j = 0;
      for (; j + 4 <= rows; j += 4) {
        transpose_4x4<Pair, float>(pairs + i * stride + j, stride, out + j * kAscendColumns + i,
                                   kAscendColumns);
      }
      for (; j < rows; ++j) {
        for (int64_t k = i; k < i + 4; ++k) {
          out[j * kAscendColumns + k] = static_cast<float>(pairs[k * stride + j]);
        }
      }
    }
  }
  for (; i < columns; ++i) {
    for (int64_t j = 0; j < rows; ++j) {
      out[j * kAscendColumns + i] = static_cast<float>(pairs[i * stride + j]);
    }
  }
}

// What one hidden unit multiplies or adds.
struct HiddenFactors {
  float offset;
  float difference;
  float pull;
};

// `n` visible units from i on of hidden unit j.
inline __attribute__((always_inline)) void ascend_lanes(const AscendTask& task, int64_t j,
                                                        int64_t i, int64_t n,
                                                        const HiddenFactors& hidden,
                                                        const float* pairs, float* visible_shift,
                                                        AscendFloats& hidden_shift) {
  const int64_t place = j * task.visible + i;
  AscendFloats pair, offset, difference, mean, weight, shift;
  read_lanes(pairs, n, pair);
  read_lanes(task.visible_offset + i, n, offset);
  read_lanes(task.visible_difference + i, n, difference);
  read_lanes(task.visible_mean + i, n, mean);
  read_lanes(task.weight + place, n, weight);
  read_lanes(visible_shift + i, n, shift);

  const AscendFloats gradient =
      (pair * task.scale - offset * hidden.difference) - difference * hidden.offset;
  shift += gradient * hidden.offset;
  hidden_shift += gradient * offset;
  write_lanes(shift, n, visible_shift + i);
  if (task.gradient != nullptr) write_lanes(gradient, n, task.gradient + place);

  const AscendInts sign = (weight < 0.0f) - (weight > 0.0f);  // of comparisons that give 0, -1
  AscendFloats change = gradient - weight * task.decay;
  change = change - __builtin_convertvector(sign, AscendFloats) * task.l1;
  change = (change + mean * hidden.pull) * task.rate;
  if (task.velocity != nullptr) {
    AscendFloats velocity;
    read_lanes(task.velocity + place, n, velocity);
    change = velocity * task.momentum + change;
    write_lanes(change, n, task.velocity + place);
  }
  weight += change;
  write_lanes(weight, n, task.weight + place);
}

// A row of a tile: of hidden unit j, visible units from `first` on.
inline void ascend_row(const AscendTask& given, int64_t j, int64_t first, int64_t columns,
                       const float* pairs, float* visible_shift, AscendFloats& hidden_shift) {
  const AscendTask task = given;  // which nothing written can change
  const HiddenFactors hidden = {task.hidden_offset[j], task.hidden_difference[j], task.pull[j]};
  AscendFloats sum = hidden_shift;
  int64_t at = 0;
  for (; at + kAscendLanes <= columns; at += kAscendLanes) {
    ascend_lanes(task, j, first + at, kAscendLanes, hidden, pairs + at, visible_shift, sum);
  }
  if (at < columns) {
    ascend_lanes(task, j, first + at, columns - at, hidden, pairs + at, visible_shift, sum);
  }
  hidden_shift = sum;
}

template <typename Pair>
inline void ascend_rows(const AscendTask& task, int64_t first, int64_t count, float* visible_shift,
                        float* scratch) {
  const Pair* const pairs = static_cast<const Pair*>(task.pairs);
  for (int64_t row = first; row < first + count; row += kAscendRows) {
    const int64_t rows = first + count - row < kAscendRows ? first + count - row : kAscendRows;
    AscendFloats hidden_shift[kAscendRows] = {};
    for (int64_t i = 0; i < task.visible; i += kAscendColumns) {
      const int64_t columns = task.visible - i < kAscendColumns ? task.visible - i : kAscendColumns;
      transpose_pairs(pairs + i * task.hidden + row, task.hidden, columns, rows, scratch);
      for (int64_t j = 0; j < rows; ++j) {
        ascend_row(task, row + j, i, columns, scratch + j * kAscendColumns, visible_shift,
                   hidden_shift[j]);
      }
    }
    for (int64_t j = 0; j < rows; ++j) {
      // Halves are added to halves.
      for (int64_t half = kAscendLanes / 2; half > 0; half /= 2) {
        for (int64_t lane = 0; lane < half; ++lane) {
          hidden_shift[j][lane] += hidden_shift[j][lane + half];
        }
      }
      task.hidden_shift[row + j] = hidden_shift[j][0];
    }
  }
}

inline void ascend(const AscendTask& task, int64_t first, int64_t count, float* visible_shift,
                   float* scratch) {
  for (int64_t i = 0; i < task.visible; ++i) visible_shift[i] = 0.0f;  // null without units
  if (task.pair_kind == PairKind::kInt32) {
    ascend_rows<int32_t>(task, first, count, visible_shift, scratch);
  } else if (task.pair_kind == PairKind::kInt64) {
    ascend_rows<int64_t>(task, first, count, visible_shift, scratch);
  } else {
    ascend_rows<float>(task, first, count, visible_shift, scratch);
  }
}

constexpr AscendKernels kAscendKernels = {ascend};

}  // namespace
}  // namespace torch_init
