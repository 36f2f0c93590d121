// SPDX-License-Identifier: Apache-2.0
//
// A step of a machine's parameters on a GPU, in two launches (portable/thread_block.h):
//
//     differences   the data's means, those less the model's, and the offsets of centring
//     ascend        weights and biases, with the bits of host_ascend
//
// Sums of a gradient over one side keep the CPU's order (docs/gibbs.md, 8), so each is made by a
// few threads of its own, from the pairs again, beside the blocks that move weights.
#pragma once

#include "gibbs/ascend.h"
#include "gibbs/gibbs_kernel.h"

namespace torch_init {

struct DifferencesTask {
  const int64_t* sums;  // [data, model][visible units, then hidden ones]
  double count[2][2];   // of phase and side, by which sums are divided
  int32_t spin[2];
  int64_t units[2];
  float* mean;        // [visible units, then hidden ones], the data's
  float* difference;  // the same, less the model's
  float* offset[2];   // of each side: offset = offset * keep + mean * rate; null: no centring
  float keep;
  float rate;
};

TI_HOST_DEVICE float mean_of_sum(const DifferencesTask& task, int phase, int side, int64_t sum) {
  const double mean = static_cast<double>(sum) / task.count[phase][side];
  return static_cast<float>(task.spin[side] != 0 ? 2.0 * mean - 1.0 : mean);
}

template <typename Block>
TI_HOST_DEVICE void make_differences(const Block& block, const DifferencesTask& task) {
  const int64_t units = task.units[kVisible] + task.units[kHidden];
  share(block, units, [&](int64_t i) {
    const int side = i < task.units[kVisible] ? kVisible : kHidden;
    const float mean = mean_of_sum(task, 0, side, task.sums[i]);
    task.mean[i] = mean;
    task.difference[i] = mean - mean_of_sum(task, 1, side, task.sums[units + i]);
    if (task.offset[side] == nullptr) return;
    float* const offset = task.offset[side] + (side == kVisible ? i : i - task.units[kVisible]);
    *offset = fma_rn(mean, task.rate, *offset * task.keep);
  });
}

// velocity = velocity * momentum + slope * rate, bias += velocity.
struct BiasMove {
  float* bias;  // null: stays
  float* velocity;
  float rate;
};

// `weights.pull`, and with it `weights.visible_mean`, may be null: 0; and so may both offsets.
struct ParametersTask {
  AscendTask weights;
  BiasMove bias[2];
};

constexpr int kAscendTile = 64;
// Units whose sum one block makes, and threads for each.
constexpr int kShiftUnits = 16;
constexpr int kShiftThreads = kGibbsThreads / kShiftUnits;
static_assert(kShiftThreads == 16, "the lanes of ascend_inl.h");

TI_HOST_DEVICE int64_t ascend_tiles_across(const AscendTask& task) {
  return (task.visible + kAscendTile - 1) / kAscendTile;
}

TI_HOST_DEVICE int64_t ascend_tiles(const AscendTask& task) {
  return (task.hidden + kAscendTile - 1) / kAscendTile * ascend_tiles_across(task);
}

TI_HOST_DEVICE int64_t shift_blocks(int64_t units) {
  return (units + kShiftUnits - 1) / kShiftUnits;
}

TI_HOST_DEVICE int64_t ascend_blocks(const AscendTask& task) {
  return ascend_tiles(task) + shift_blocks(task.visible) + shift_blocks(task.hidden);
}

struct AscendShared {
  float pair[kAscendTile][kAscendTile + 1];
  float part[kShiftThreads][kShiftUnits];
  float total[kShiftUnits];
};

TI_HOST_DEVICE float at_or_zero(const float* values, int64_t i) {
  return values == nullptr ? 0.0f : values[i];
}

// What a unit of either side adds to a gradient.
struct UnitFactors {
  float offset;
  float difference;
};

TI_HOST_DEVICE UnitFactors visible_factors(const AscendTask& task, int64_t i) {
  return {at_or_zero(task.visible_offset, i), task.visible_difference[i]};
}

TI_HOST_DEVICE UnitFactors hidden_factors(const AscendTask& task, int64_t j) {
  return {at_or_zero(task.hidden_offset, j), task.hidden_difference[j]};
}

TI_HOST_DEVICE float gradient_of(float pair, float scale, const UnitFactors& visible,
                                 const UnitFactors& hidden) {
  return (pair * scale - visible.offset * hidden.difference) - visible.difference * hidden.offset;
}

// Rows of a tile that a thread takes, and how many of them at once.
constexpr int kRowStep = kGibbsThreads / kAscendTile;
constexpr int kRowsOfThread = kAscendTile / kRowStep;
constexpr int kRowsAtOnce = 8;

template <typename Pair, typename Block>
TI_HOST_DEVICE void load_pairs(const Block& block, const AscendTask& task, int64_t first_i,
                               int64_t first_j, AscendShared* shared) {
  const Pair* const pairs = static_cast<const Pair*>(task.pairs);
  block.for_each_thread([&](int thread) {
    const int64_t j = first_j + thread % kAscendTile;
    Pair pair[kRowsOfThread];
#pragma unroll
    for (int n = 0; n < kRowsOfThread; ++n) {
      const int64_t i = first_i + thread / kAscendTile + n * kRowStep;
      const bool exists = i < task.visible && j < task.hidden;
      pair[n] = exists ? pairs[i * task.hidden + j] : Pair{0};
    }
#pragma unroll
    for (int n = 0; n < kRowsOfThread; ++n) {
      const int row = thread / kAscendTile + n * kRowStep;
      shared->pair[row][thread % kAscendTile] = static_cast<float>(pair[n]);
    }
  });
}

// What moves besides the gradient: of weight w at the place of its gradient g.
TI_HOST_DEVICE float change_of(const AscendTask& task, float g, float w, float pulled) {
  const float sign = (w > 0.0f ? 1.0f : 0.0f) - (w < 0.0f ? 1.0f : 0.0f);
  float change = g - w * task.decay;
  change = change - sign * task.l1;
  return (change + pulled) * task.rate;
}

template <typename Pair, typename Block>
TI_HOST_DEVICE void move_weights(const Block& block, const AscendTask& task, int64_t tile,
                                 AscendShared* shared) {
  const int64_t first_j = tile / ascend_tiles_across(task) * kAscendTile;
  const int64_t first_i = tile % ascend_tiles_across(task) * kAscendTile;
  load_pairs<Pair>(block, task, first_i, first_j, shared);
  block.barrier();
  block.for_each_thread([&](int thread) {
    const int64_t i = first_i + thread % kAscendTile;
    if (i >= task.visible) return;
    const int64_t first_row = first_j + thread / kAscendTile;
    const int64_t rows = task.hidden - first_row;
    const int64_t first_place = first_row * task.visible + i;
    const UnitFactors visible = visible_factors(task, i);
    const float mean = task.pull == nullptr ? 0.0f : task.visible_mean[i];
#pragma unroll 1
    for (int first = 0; first < kRowsOfThread; first += kRowsAtOnce) {
      float weight[kRowsAtOnce];  // on their way before the first is used
      float velocity[kRowsAtOnce];
#pragma unroll
      for (int n = 0; n < kRowsAtOnce; ++n) {
        const int row = (first + n) * kRowStep;
        const bool exists = row < rows;
        weight[n] = exists ? task.weight[first_place + row * task.visible] : 0.0f;
        velocity[n] = exists ? at_or_zero(task.velocity, first_place + row * task.visible) : 0.0f;
      }
#pragma unroll
      for (int n = 0; n < kRowsAtOnce; ++n) {
        const int row = (first + n) * kRowStep;
        if (row >= rows) break;
        const int64_t j = first_row + row;
        const int64_t place = first_place + row * task.visible;
        const float pair = shared->pair[thread % kAscendTile][thread / kAscendTile + row];
        const float gradient = gradient_of(pair, task.scale, visible, hidden_factors(task, j));
        float change = change_of(task, gradient, weight[n], mean * at_or_zero(task.pull, j));
        if (task.velocity != nullptr) {
          change = velocity[n] * task.momentum + change;
          task.velocity[place] = change;
        }
        if (task.gradient != nullptr) task.gradient[place] = gradient;
        task.weight[place] = weight[n] + change;
      }
    }
  });
}

// What is left to do for a unit whose sum is known.
TI_HOST_DEVICE void move_bias(const AscendTask& task, const BiasMove& move, int side, int64_t unit,
                              float shift) {
  (side == kVisible ? task.visible_shift : task.hidden_shift)[unit] = shift;
  if (move.bias == nullptr) return;
  const float difference =
      (side == kVisible ? task.visible_difference : task.hidden_difference)[unit];
  const float of_likelihood = difference - shift;
  const float slope = of_likelihood + (side == kVisible ? 0.0f : at_or_zero(task.pull, unit));
  const float velocity = fma_rn(slope, move.rate, move.velocity[unit] * task.momentum);
  move.velocity[unit] = velocity;
  move.bias[unit] += velocity;
}

// sum_i g_ij mu_i of hidden units first ...: each thread adds up visible units 16 apart, then the
// upper half of such sums is added to the lower until one is left.
template <typename Pair, typename Block>
TI_HOST_DEVICE void shift_hidden(const Block& block, const ParametersTask& parameters,
                                 int64_t first, AscendShared* shared) {
  const AscendTask& task = parameters.weights;
  const Pair* const pairs = static_cast<const Pair*>(task.pairs);
  block.for_each_thread([&](int thread) {
    const int64_t j = first + thread % kShiftUnits;
    float sum = 0.0f;
    if (j < task.hidden && task.visible_offset != nullptr) {
      const UnitFactors hidden = hidden_factors(task, j);
#pragma unroll 8
      for (int64_t i = thread / kShiftUnits; i < task.visible; i += kShiftThreads) {
        const UnitFactors visible = visible_factors(task, i);
        const auto pair = static_cast<float>(pairs[i * task.hidden + j]);
        sum += gradient_of(pair, task.scale, visible, hidden) * visible.offset;
      }
    }
    shared->part[thread / kShiftUnits][thread % kShiftUnits] = sum;
  });
  block.barrier();
  block.for_each_thread([&](int thread) {
    if (thread >= kShiftUnits || first + thread >= task.hidden) return;
    for (int half = kShiftThreads / 2; half > 0; half /= 2) {
      for (int lane = 0; lane < half; ++lane) {
        shared->part[lane][thread] += shared->part[lane + half][thread];
      }
    }
    move_bias(task, parameters.bias[kHidden], kHidden, first + thread, shared->part[0][thread]);
  });
}

// sum_j g_ij lambda_j of visible units first ...: each thread adds up kAscendUnits hidden units,
// and one of them these sums, in order.
template <typename Pair, typename Block>
TI_HOST_DEVICE void shift_visible(const Block& block, const ParametersTask& parameters,
                                  int64_t first, AscendShared* shared) {
  const AscendTask& task = parameters.weights;
  const Pair* const pairs = static_cast<const Pair*>(task.pairs);
  block.for_each_thread([&](int thread) {
    if (thread < kShiftUnits) shared->total[thread] = 0.0f;
  });
  const int64_t all = task.hidden_offset == nullptr ? 0 : task.hidden;
  for (int64_t begin = 0; begin < all; begin += kShiftThreads * kAscendUnits) {
    block.barrier();
    block.for_each_thread([&](int thread) {
      const int64_t i = first + thread / kShiftThreads;
      const int64_t from = begin + thread % kShiftThreads * kAscendUnits;
      const int64_t end = from + kAscendUnits < task.hidden ? from + kAscendUnits : task.hidden;
      float sum = 0.0f;
      if (i < task.visible) {
        const UnitFactors visible = visible_factors(task, i);
#pragma unroll 8
        for (int64_t j = from; j < end; ++j) {
          const UnitFactors hidden = hidden_factors(task, j);
          const auto pair = static_cast<float>(pairs[i * task.hidden + j]);
          sum += gradient_of(pair, task.scale, visible, hidden) * hidden.offset;
        }
      }
      shared->part[thread % kShiftThreads][thread / kShiftThreads] = sum;
    });
    block.barrier();
    block.for_each_thread([&](int thread) {
      if (thread >= kShiftUnits) return;
      for (int part = 0; part < kShiftThreads; ++part) {
        if (begin + part * kAscendUnits < task.hidden) {
          shared->total[thread] += shared->part[part][thread];
        }
      }
    });
  }
  block.for_each_thread([&](int thread) {
    if (thread >= kShiftUnits || first + thread >= task.visible) return;
    const BiasMove& move = parameters.bias[kVisible];
    move_bias(task, move, kVisible, first + thread, shared->total[thread]);
  });
}

template <typename Pair, typename Block>
TI_HOST_DEVICE void ascend_block(const Block& block, const ParametersTask& parameters,
                                 AscendShared* shared) {
  const AscendTask& task = parameters.weights;
  const int64_t tiles = ascend_tiles(task);
  const int64_t of_hidden = shift_blocks(task.hidden);
  if (block.index() < tiles) {
    move_weights<Pair>(block, task, block.index(), shared);
  } else if (block.index() < tiles + of_hidden) {
    shift_hidden<Pair>(block, parameters, (block.index() - tiles) * kShiftUnits, shared);
  } else {
    const int64_t first = (block.index() - tiles - of_hidden) * kShiftUnits;
    shift_visible<Pair>(block, parameters, first, shared);
  }
}

}  // namespace torch_init
