// SPDX-License-Identifier: Apache-2.0
//
// A layer's weights in fixed point, on a GPU and without asking it anything: the shift is found
// there, and what reads the integers reads it there, too (portable/thread_block.h).
//
//     measure   finds the shift (scale_kernel.h)
//     quantise  the integers in both orders, their limbs, and their sums
//
// Both take tiles of 64 visible x 64 hidden units, one a block. The bits are quantize_layer's.
#pragma once

#include "gibbs/gibbs_kernel.h"
#include "gibbs/limbs.h"
#include "gibbs/quantize.h"

namespace torch_init {

constexpr int kQuantizeTile = 64;
constexpr int kQuantizeCells = kQuantizeTile * kQuantizeTile;
static_assert(kQuantizeTile == 2 * kGroupUnits && kQuantizeTile == 2 * kStepSources,
              "a tile is whole blocks of limbs for both sides");

// What the blocks of `measure` tell the last one, who leaves zeros.
struct QuantizeRoom {
  uint64_t greatest;  // bits of the greatest magnitude of a weight
  int64_t arrived;    // blocks that have done their part
};

TI_HOST_DEVICE int64_t quantize_room_size(int64_t visible, int64_t hidden) {
  return static_cast<int64_t>(sizeof(QuantizeRoom)) + (visible + hidden) * int64_t{sizeof(double)};
}

// What is found out about the scale: an integer w stands for w / 2^shift.
struct FoundScale {
  int32_t shift;
  int32_t is_fit;  // 0: a number is not finite or too large, and all integers are 0
};

template <typename Real>
struct QuantizeTask {
  Layer<Real> layer;
  QuantizedLayer out;
  uint8_t* limbs[2];
  FoundScale* scale;
  void* room;  // quantize_room_size() bytes, zeros
};

template <typename Real>
TI_HOST_DEVICE QuantizeRoom* room_of(const QuantizeTask<Real>& task) {
  return static_cast<QuantizeRoom*>(task.room);
}

// Of the magnitudes of each unit's weights, to about 2^-53 times their number.
template <typename Real>
TI_HOST_DEVICE double* sums_in_room(const QuantizeTask<Real>& task, int side) {
  double* const sums = reinterpret_cast<double*>(room_of(task) + 1);
  return side == kVisible ? sums : sums + task.layer.units[kVisible];
}

template <typename Real>
TI_HOST_DEVICE int64_t quantize_tiles(const QuantizeTask<Real>& task) {
  const int64_t visible = (task.layer.units[kVisible] + kQuantizeTile - 1) / kQuantizeTile;
  return visible * ((task.layer.units[kHidden] + kQuantizeTile - 1) / kQuantizeTile);
}

// One even of a layer without weights, whose biases must be written.
template <typename Real>
TI_HOST_DEVICE int64_t quantize_blocks(const QuantizeTask<Real>& task) {
  const int64_t tiles = quantize_tiles(task);
  return tiles > 1 ? tiles : 1;
}

// First units of the tile that has the block's index, if there is one.
struct QuantizeTile {
  int64_t first[2];
  bool exists;
};

template <typename Real>
TI_HOST_DEVICE QuantizeTile quantize_tile_at(const QuantizeTask<Real>& task, int64_t index) {
  const int64_t across = (task.layer.units[kHidden] + kQuantizeTile - 1) / kQuantizeTile;
  if (index >= quantize_tiles(task)) return {{0, 0}, false};
  return {{index / across * kQuantizeTile, index % across * kQuantizeTile}, true};
}

// Calls body(row, column, weight) for a tile's cells; beyond the layer a weight is 0.
template <typename Real, typename Block, typename Body>
TI_HOST_DEVICE void for_each_cell(const Block& block, const QuantizeTask<Real>& task,
                                  const QuantizeTile& tile, const Body& body) {
  constexpr int kOfThread = kQuantizeCells / kGibbsThreads;
  constexpr int kAtOnce = 64 / sizeof(Real);  // on their way before the first is used
  const Layer<Real>& layer = task.layer;
  block.for_each_thread([&](int thread) {
#pragma unroll 1
    for (int first = 0; first < kOfThread; first += kAtOnce) {
      const int cell = thread + first * kGibbsThreads;
      Real weight[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int at = cell + i * kGibbsThreads;
        const int64_t v = tile.first[kVisible] + at / kQuantizeTile;
        const int64_t h = tile.first[kHidden] + at % kQuantizeTile;
        const bool exists = v < layer.units[kVisible] && h < layer.units[kHidden];
        weight[i] = exists ? layer.weight[v * layer.units[kHidden] + h] : Real{0};
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int at = cell + i * kGibbsThreads;
        body(at / kQuantizeTile, at % kQuantizeTile, weight[i]);
      }
    }
  });
}

// The nearest integer, ties to even; |x| < 2^31.
TI_HOST_DEVICE int32_t rounded(double x) {
  return static_cast<int32_t>(static_cast<uint32_t>(double_bits(x + 0x1.8p52)));
}

struct QuantizeShared {
  int32_t weight[kQuantizeTile][kQuantizeTile + 1];
};

// A tile's limbs of a side, a fragment a thread.
template <typename Real, typename Block>
TI_HOST_DEVICE void write_tile_limbs(const Block& block, const QuantizeTask<Real>& task,
                                     const QuantizeTile& tile, int side,
                                     const QuantizeShared& shared) {
  const int64_t steps = groups_of(task.layer.units[1 - side]);
  block.for_each_thread([&](int thread) {
    const int lane = thread % kWarpLanes;
    const int half = thread / kWarpLanes % 2;
    const int step = thread / (2 * kWarpLanes) % 2;
    const int group = thread / (4 * kWarpLanes);
    const int64_t row = tile.first[side] / kGroupUnits + group;
    const int64_t column = tile.first[1 - side] / kStepSources + step;
    if (row >= groups_of(task.layer.units[side]) || column >= steps) return;
    uint8_t* const out = task.limbs[side] + (row * steps + column) * kBlockBytes;
    write_fragment(out, half, lane, [&](int u, int s) {
      const int unit = group * kGroupUnits + u;
      const int source = step * kStepSources + s;
      return side == kVisible ? shared.weight[unit][source] : shared.weight[source][unit];
    });
  });
}

// A tile's integers of a side, row after row, with the zeros that pad them; and their sums.
template <typename Real, typename Block>
TI_HOST_DEVICE void write_tile_rows(const Block& block, const QuantizeTask<Real>& task,
                                    const QuantizeTile& tile, int side,
                                    const QuantizeShared& shared) {
  int32_t* const out = side == kVisible ? task.out.by_visible : task.out.by_hidden;
  const int64_t stride = padded(task.layer.units[1 - side]);
  const auto weight = [&](int unit, int source) {
    return side == kVisible ? shared.weight[unit][source] : shared.weight[source][unit];
  };
  block.for_each_thread([&](int thread) {
#pragma unroll 8
    for (int cell = thread; cell < kQuantizeCells; cell += kGibbsThreads) {
      const int64_t unit = tile.first[side] + cell / kQuantizeTile;
      const int64_t source = tile.first[1 - side] + cell % kQuantizeTile;
      if (unit < task.layer.units[side] && source < stride) {
        out[unit * stride + source] = weight(cell / kQuantizeTile, cell % kQuantizeTile);
      }
    }
    const int64_t unit = tile.first[side] + thread;
    if (thread >= kQuantizeTile || unit >= task.layer.units[side]) return;
    uint32_t sum = 0;
#pragma unroll 8
    for (int i = 0; i < kQuantizeTile; ++i) sum += static_cast<uint32_t>(weight(thread, i));
    block.add(task.out.sums[side] + unit, static_cast<int32_t>(sum));
  });
}

template <typename Real, typename Block>
TI_HOST_DEVICE void quantize_tile(const Block& block, const QuantizeTask<Real>& task,
                                  QuantizeShared* shared) {
  const FoundScale found = *task.scale;
  const double scale = power_of_two(found.shift);
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    share(block, padded(task.layer.units[side]), [&](int64_t unit) {
      const bool exists = unit < task.layer.units[side] && found.is_fit != 0;
      const double bias = exists ? static_cast<double>(task.layer.bias[side][unit]) : 0.0;
      task.out.bias[side][unit] = rounded(bias * scale);
    });
  }
  const QuantizeTile tile = quantize_tile_at(task, block.index());
  if (!tile.exists) return;
  for_each_cell(block, task, tile, [&](int row, int column, Real weight) {
    const double given = found.is_fit != 0 ? static_cast<double>(weight) : 0.0;
    shared->weight[row][column] = rounded(given * scale);
  });
  block.barrier();
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    write_tile_rows(block, task, tile, side, *shared);
    write_tile_limbs(block, task, tile, side, *shared);
  }
}

}  // namespace torch_init
