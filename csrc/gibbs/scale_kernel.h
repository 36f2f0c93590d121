// SPDX-License-Identifier: Apache-2.0
//
// The shift of a layer in fixed point, found on a GPU: blocks find the greatest magnitude and add
// up magnitudes for each unit; the last of them to do its part decides, by exact sums where the
// others are too close to the limit to tell.
#pragma once

#include "gibbs/quantize_kernel.h"

namespace torch_init {

TI_HOST_DEVICE uint64_t bits_of_magnitude(double x) { return double_bits(x) & 0x7fffffffffffffffu; }

TI_HOST_DEVICE uint64_t greater(uint64_t a, uint64_t b) { return a > b ? a : b; }

struct MeasureShared {
  double magnitude[kQuantizeTile][kQuantizeTile + 1];
  // Magnitudes' bits, which order them; infinities and NaN are the greatest.
  uint64_t greatest[kGibbsThreads];
  uint64_t greatest_bias[kGibbsThreads];
  int64_t before;
  int32_t shift;
  int32_t is_fit;
  int32_t is_sure;
  int32_t exceeding;
};

// Leaves the greatest of the threads' numbers in front, for thread 0, in two steps.
template <typename Block>
TI_HOST_DEVICE void reduce_greatest(const Block& block, uint64_t* numbers) {
  constexpr int kPart = 16;
  static_assert(kPart * kPart == kGibbsThreads, "two steps alike");
  for (int distance = 1; distance < kGibbsThreads; distance *= kPart) {
    block.barrier();
    block.for_each_thread([&](int thread) {
      if (thread % (distance * kPart) != 0) return;
      uint64_t found = 0;
#pragma unroll
      for (int i = 0; i < kPart; ++i) found = greater(found, numbers[thread + i * distance]);
      numbers[thread] = found;
    });
  }
}

// A tile's part of the greatest magnitude and of the sums.
template <typename Real, typename Block>
TI_HOST_DEVICE void measure_tile(const Block& block, const QuantizeTask<Real>& task,
                                 const QuantizeTile& tile, MeasureShared* shared) {
  for_each_cell(block, task, tile, [&](int row, int column, Real weight) {
    const double magnitude = bits_double(bits_of_magnitude(static_cast<double>(weight)));
    shared->magnitude[row][column] = magnitude;
  });
  block.barrier();
  block.for_each_thread([&](int thread) {
    shared->greatest[thread] = 0;
    if (thread >= 2 * kQuantizeTile) return;
    const int side = thread / kQuantizeTile;
    const int own = thread % kQuantizeTile;
    double sum = 0.0;
    uint64_t greatest = 0;
#pragma unroll 8
    for (int i = 0; i < kQuantizeTile; ++i) {
      const double x = side == kVisible ? shared->magnitude[own][i] : shared->magnitude[i][own];
      greatest = greater(greatest, double_bits(x));
      sum += x;
    }
    shared->greatest[thread] = greatest;
    // Chosen, as an index would force the tile into local memory.
    const int64_t unit = own + (side == kVisible ? tile.first[kVisible] : tile.first[kHidden]);
    if (unit < task.layer.units[side]) block.add(sums_in_room(task, side) + unit, sum);
  });
  reduce_greatest(block, shared->greatest);
  block.for_each_thread([&](int thread) {
    if (thread == 0) block.raise(&room_of(task)->greatest, shared->greatest[0]);
  });
}

// Bounds of a unit's exact sum of magnitudes, 2^shift times `sum`, each number rounded to an
// integer: what rounding can add, and how far `sum` itself may be off.
struct SumBounds {
  double rounding;
  double relative;

  TI_HOST_DEVICE_MEMBER bool may_exceed(double sum) const {
    return sum * (1.0 + relative) + rounding > static_cast<double>(kMostSum);
  }
  TI_HOST_DEVICE_MEMBER bool must_exceed(double sum) const {
    return sum * (1.0 - relative) - rounding > static_cast<double>(kMostSum);
  }
};

template <typename Real>
TI_HOST_DEVICE SumBounds bounds_of(const Layer<Real>& layer) {
  const int64_t most = layer.units[0] > layer.units[1] ? layer.units[0] : layer.units[1];
  const double numbers = static_cast<double>(most + 1);
  return {0.5 * numbers + 1.0, numbers * 0x1p-51};
}

template <typename Real>
TI_HOST_DEVICE double sum_of_unit(const QuantizeTask<Real>& task, int side, int64_t unit) {
  const double bias = static_cast<double>(task.layer.bias[side][unit]);
  return bits_double(bits_of_magnitude(bias)) + sums_in_room(task, side)[unit];
}

TI_HOST_DEVICE int64_t rounded_magnitude(double x) {
  const int64_t integer = rounded(x);
  return integer < 0 ? -integer : integer;
}

// The limit that quantize_layer checks, to the last bit.
template <typename Real>
TI_HOST_DEVICE int64_t exact_sum(const Layer<Real>& layer, int side, int64_t unit, double scale) {
  const int64_t hidden = layer.units[kHidden];
  int64_t sum = rounded_magnitude(static_cast<double>(layer.bias[side][unit]) * scale);
  for (int64_t i = 0; i < layer.units[1 - side]; ++i) {
    const int64_t at = side == kVisible ? unit * hidden + i : i * hidden + unit;
    sum += rounded_magnitude(static_cast<double>(layer.weight[at]) * scale);
  }
  return sum;
}

// The greatest shift that no single number and no sum certainly excludes.
template <typename Real>
TI_HOST_DEVICE void guess_shift(const QuantizeTask<Real>& task, double weight, double bias,
                                double sum, MeasureShared* shared) {
  const SumBounds bounds = bounds_of(task.layer);
  shared->is_fit = weight < 0x1p64 && bias < 0x1p64;
  int shift = shared->is_fit != 0 ? kMostShift : 0;
  if (shared->is_fit != 0) {
    while (weight * power_of_two(shift) > static_cast<double>(kMostWeight) + 0.5) --shift;
    while (bias * power_of_two(shift) > static_cast<double>(kMostSum) + 0.5) --shift;
    while (bounds.must_exceed(sum * power_of_two(shift))) --shift;
  }
  shared->shift = shift;
  shared->is_sure = shared->is_fit == 0 || !bounds.may_exceed(sum * power_of_two(shift));
}

// Whether every sum keeps its limit, by adding up again what comes close to it: rarely anything.
template <typename Real, typename Block>
TI_HOST_DEVICE bool sums_fit(const Block& block, const QuantizeTask<Real>& task,
                             MeasureShared* shared) {
  const SumBounds bounds = bounds_of(task.layer);
  const double scale = power_of_two(shared->shift);
  block.for_each_thread([&](int thread) {
    if (thread == 0) shared->exceeding = 0;
  });
  block.barrier();
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    share_in_block(block, task.layer.units[side], [&](int64_t unit) {
      if (!bounds.may_exceed(sum_of_unit(task, side, unit) * scale)) return;
      if (exact_sum(task.layer, side, unit, scale) > kMostSum) block.add(&shared->exceeding, 1);
    });
  }
  block.barrier();
  return shared->exceeding == 0;
}

// What the last block does: the shift, zeros for the next call, and for sums to be added up.
template <typename Real, typename Block>
TI_HOST_DEVICE void decide_scale(const Block& block, const QuantizeTask<Real>& task,
                                 MeasureShared* shared) {
  block.for_each_thread([&](int thread) {
    uint64_t sum = 0;
    uint64_t bias = 0;
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      for (int64_t unit = thread; unit < task.layer.units[side]; unit += kGibbsThreads) {
        sum = greater(sum, double_bits(sum_of_unit(task, side, unit)));
        bias = greater(bias, bits_of_magnitude(static_cast<double>(task.layer.bias[side][unit])));
      }
    }
    shared->greatest[thread] = sum;
    shared->greatest_bias[thread] = bias;
  });
  reduce_greatest(block, shared->greatest);
  reduce_greatest(block, shared->greatest_bias);
  block.for_each_thread([&](int thread) {
    if (thread != 0) return;
    guess_shift(task, bits_double(room_of(task)->greatest), bits_double(shared->greatest_bias[0]),
                bits_double(shared->greatest[0]), shared);
  });
  block.barrier();
  while (shared->is_sure == 0 && !sums_fit(block, task, shared)) {
    block.for_each_thread([&](int thread) {
      if (thread == 0) --shared->shift;
    });
    block.barrier();
  }
  block.for_each_thread([&](int thread) {
    if (thread != 0) return;
    *task.scale = {shared->shift, shared->is_fit};
    *room_of(task) = {0, 0};
  });
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    share_in_block(block, task.layer.units[side],
                   [&](int64_t unit) { sums_in_room(task, side)[unit] = 0.0; });
    share_in_block(block, padded(task.layer.units[side]),
                   [&](int64_t unit) { task.out.sums[side][unit] = 0; });
  }
}

template <typename Real, typename Block>
TI_HOST_DEVICE void measure_layer(const Block& block, const QuantizeTask<Real>& task,
                                  MeasureShared* shared) {
  const QuantizeTile tile = quantize_tile_at(task, block.index());
  if (tile.exists) measure_tile(block, task, tile, shared);
  block.fence();
  block.barrier();
  block.for_each_thread([&](int thread) {
    if (thread == 0) shared->before = block.count_up(&room_of(task)->arrived);
  });
  block.barrier();
  if (shared->before + 1 != block.count()) return;
  block.fence();
  decide_scale(block, task, shared);
}

}  // namespace torch_init
