// SPDX-License-Identifier: Apache-2.0
//
// One step of a machine's weights along the gradient of the log-likelihood, in one pass over them:
// float32, every operation in the order written here, so that it is the same bits on every tier and
// on any number of threads (docs/gibbs.md, 8).
#pragma once

#include "portable/portable.h"

namespace torch_init {

enum class PairKind : int32_t { kInt32 = 0, kInt64 = 1, kFloat32 = 2 };

// Hidden units j, visible units i.
struct AscendTask {
  int64_t visible;
  int64_t hidden;
  const void* pairs;  // [visible][hidden], the phases' difference in units of 1 / scale
  PairKind pair_kind;
  float scale;
  // Centring (Melchior et al. 2016): the offsets mu and lambda, and the differences of the means.
  const float* visible_offset;
  const float* hidden_offset;
  const float* visible_difference;
  const float* hidden_difference;
  // Sparsity: `pull` of each hidden unit times the visible units' means.
  const float* pull;
  const float* visible_mean;
  float decay;
  float l1;
  float momentum;
  float rate;
  float* weight;    // [hidden][visible]
  float* velocity;  // the same; null: 0
  float* gradient;  // the same, of the likelihood alone; null: not wanted
  // sum_j gradient_ji lambda_j and sum_i gradient_ji mu_i
  float* visible_shift;
  float* hidden_shift;
};

// Hidden units that a thread takes at a time; sums over hidden units are sums of their sums.
constexpr int64_t kAscendUnits = 64;

struct AscendKernels {
  // Hidden units first ... first + count - 1. `visible_shift` [visible] is their part of the sums,
  // `scratch` holds kAscendScratch floats.
  void (*run)(const AscendTask& task, int64_t first, int64_t count, float* visible_shift,
              float* scratch);
};

// Tiles of hidden x visible units, whose pairs are transposed at once.
constexpr int64_t kAscendRows = 64;
constexpr int64_t kAscendColumns = 64;
constexpr int64_t kAscendScratch = kAscendRows * kAscendColumns;

void host_ascend(const AscendTask& task, const AscendKernels& kernels, int max_threads);

}  // namespace torch_init
