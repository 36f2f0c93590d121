// SPDX-License-Identifier: Apache-2.0
//
// What torch_init/_ops_ascend.py says of a step of the weights.
#pragma once

#include <stdint.h>

#include <array>

#include "gibbs/ascend.h"

namespace torch_init {

// Of pairs, visible and hidden offsets, visible and hidden differences, pull, visible means,
// weight, velocity, gradient, visible and hidden shifts.
using AscendAddresses = std::array<uint64_t, 12>;

// Numbers: scale, decay, l1, momentum, rate.
inline AscendTask ascend_task(const AscendAddresses& at, const std::array<int64_t, 2>& units,
                              int pair_kind, const std::array<float, 5>& numbers) {
  const auto floats = [&](size_t i) { return reinterpret_cast<float*>(at[i]); };
  AscendTask task{};
  task.visible = units[0];
  task.hidden = units[1];
  task.pairs = reinterpret_cast<const void*>(at[0]);
  task.pair_kind = static_cast<PairKind>(pair_kind);
  task.visible_offset = floats(1);
  task.hidden_offset = floats(2);
  task.visible_difference = floats(3);
  task.hidden_difference = floats(4);
  task.pull = floats(5);
  task.visible_mean = floats(6);
  task.weight = floats(7);
  task.velocity = floats(8);
  task.gradient = floats(9);
  task.visible_shift = floats(10);
  task.hidden_shift = floats(11);
  task.scale = numbers[0];
  task.decay = numbers[1];
  task.l1 = numbers[2];
  task.momentum = numbers[3];
  task.rate = numbers[4];
  return task;
}

}  // namespace torch_init
