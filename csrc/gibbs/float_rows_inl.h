// SPDX-License-Identifier: Apache-2.0
//
// A chain's units with floating-point fields, for every tier. A tier's class `Tier` has
//
//     static void values(const Distribution&, uint64_t key, PhiloxBlock counter, int n, float*)
//
// which writes the values of n blocks of four words, the first having this counter.
#pragma once

#include "gibbs/float_units.h"

namespace torch_init {
namespace {

constexpr int64_t kFloatTile = 64;

template <typename Tier>
void sample_float_chain(const FloatTask& task, int64_t chain) {
  const RowsInMemory rows = {task.table.table_f32.rows};
  if (task.unit == FloatUnit::kSoftmax) {
    for (int64_t block = 0; block < float_blocks(task); ++block) {
      sample_float_block(task, chain, block, rows);
    }
    return;
  }
  const uint32_t global_chain = task.first_chain + static_cast<uint32_t>(chain);
  for (int64_t unit = 0; unit < task.units; unit += kFloatTile) {
    const int64_t left = task.units - unit;
    const int64_t n = left < kFloatTile ? left : kFloatTile;
    const int64_t at = chain * task.units + unit;
    const float* const field = task.field + at;
    alignas(64) float value[kFloatTile];
    Tier::values(task.table, task.key,
                 gibbs_counter(static_cast<uint32_t>(unit / 4), global_chain, task.step, task.side),
                 kFloatTile / 4, value);
    if (task.unit == FloatUnit::kBernoulli) {
      for (int64_t i = 0; i < n; ++i) task.states[at + i] = field[i] > value[i];
    } else if (task.unit == FloatUnit::kRelu) {
      for (int64_t i = 0; i < n; ++i) task.values[at + i] = noisy_relu(field[i], value[i]);
    } else if (task.std == nullptr) {
      for (int64_t i = 0; i < n; ++i) task.values[at + i] = fma_rn(value[i], 1.0f, field[i]);
    } else {
      const float* const std = task.std + unit;
      for (int64_t i = 0; i < n; ++i) task.values[at + i] = fma_rn(value[i], std[i], field[i]);
    }
  }
}

}  // namespace
}  // namespace torch_init
