// SPDX-License-Identifier: Apache-2.0
//
// The sufficient statistics of sampled binary states, v^T h: integers, whatever the order.
#pragma once

#include "portable/portable.h"

namespace torch_init {

struct StatisticsTask {
  const uint8_t* visible;  // [chains][units[0]], 0 or 1
  const uint8_t* hidden;   // [chains][hidden_stride]
  int64_t hidden_stride;   // at least units[1]; for a tier's kernel a multiple of 64
  int64_t chains;
  int64_t units[2];
  int32_t* out;  // [units[0]][units[1]]
  int32_t sign;  // 0: out = v^T h; 1 or -1: out += sign * v^T h
};

// Visible units that one call of a tier's kernel takes.
constexpr int64_t kStatisticsUnits = 64;

struct StatisticsKernels {
  // Rows first ... first + count - 1 of `out`. `scratch` holds kStatisticsUnits * chains integers.
  void (*run)(const StatisticsTask& task, int64_t first, int64_t count, int32_t* scratch);
};

void host_statistics(const StatisticsTask& task, const StatisticsKernels& kernels, int max_threads);

}  // namespace torch_init
