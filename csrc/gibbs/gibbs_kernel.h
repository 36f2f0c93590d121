// SPDX-License-Identifier: Apache-2.0
//
// What the CUDA kernels' bodies share, which the host's tests run too: states as bits, and the
// sampling of four units, those of one Philox block.
#pragma once

#include "gibbs/float_units.h"
#include "gibbs/limbs.h"
#include "gibbs/mean.h"
#include "portable/thread_block.h"

namespace torch_init {

constexpr int kGibbsThreads = 256;
constexpr int kGibbsWarps = kGibbsThreads / kWarpLanes;
constexpr int kUnitsOfBlock = 4;
constexpr int kTableSize = Segmentation<float>::kSegments * Segmentation<float>::kCoefficients;

// Calls body(item) for the block's threads' share of `items`.
template <typename Block, typename Body>
TI_HOST_DEVICE void share(const Block& block, int64_t items, const Body& body) {
  block.for_each_thread([&](int thread) {
    for (int64_t item = block.index() * kGibbsThreads + thread; item < items;
         item += block.count() * kGibbsThreads) {
      body(item);
    }
  });
}

// The same of items that the block has for itself.
template <typename Block, typename Body>
TI_HOST_DEVICE void share_in_block(const Block& block, int64_t items, const Body& body) {
  block.for_each_thread([&](int thread) {
    for (int64_t item = thread; item < items; item += kGibbsThreads) body(item);
  });
}

// The quantile table's rows in a block's shared memory.
struct SharedRows {
  const float* rows;  // aligned to 16 bytes

  TI_HOST_DEVICE_MEMBER void operator()(uint32_t row, float c[4]) const {
    memcpy(c, __builtin_assume_aligned(rows + row * 4, 16), 16);
  }
};

// Which states must be packed before the first half-step.
TI_HOST_DEVICE bool must_pack(const GibbsTask& task, int side) {
  const bool kept = side == kVisible && task.clamped != nullptr;
  return task.half_steps > 0 && (side != task.first_side || kept);
}

// Bit i is unit 32 group + i of a chain; beyond the last unit or chain, 0.
TI_HOST_DEVICE uint32_t bits_of_states(const GibbsTask& task, int side, int64_t group,
                                       int64_t chain) {
  if (chain >= task.chains) return 0;
  const int64_t units = task.side[side].units;
  const int64_t first = group * kGroupUnits;
  const uint8_t* const states = task.state[side] + chain * units + first;
  const int64_t count = units - first < kGroupUnits ? units - first : kGroupUnits;
  uint32_t bits = 0;
  for (int64_t i = 0; i < count; ++i) bits |= (states[i] != 0 ? 1u : 0u) << i;
  return bits;
}

TI_HOST_DEVICE void states_of_bits(const GibbsTask& task, int side, int64_t group, int64_t chain,
                                   uint32_t bits) {
  if (chain >= task.chains) return;
  const int64_t units = task.side[side].units;
  const int64_t first = group * kGroupUnits;
  uint8_t* const states = task.state[side] + chain * units + first;
  const int64_t count = units - first < kGroupUnits ? units - first : kGroupUnits;
  for (int64_t i = 0; i < count; ++i) states[i] = (bits >> i) & 1u;
}

// The rows of a table that is there kTableCopies times, side by side, in shared memory: 16 bytes
// are read by eight threads at once, and each of them reads from other banks.
constexpr int kTableCopies = 8;

struct CopiedRows {
  const float* rows;  // aligned to 16 bytes
  int copy;

  TI_HOST_DEVICE_MEMBER void operator()(uint32_t row, float c[4]) const {
    const float* const first = rows + 4 * copy;
#if defined(__CUDA_ARCH__)
    // One multiply-add of the bits above the position: nvcc would shift, mask, subtract and add.
    constexpr uint32_t kStride = kTableCopies * 16;
    constexpr uint32_t kFirst = Segmentation<float>::kFirstSegment;
    const auto origin = static_cast<uint32_t>(__cvta_generic_to_shared(first)) - kFirst * kStride;
    uint32_t at;
    asm("mad.lo.u32 %0, %1, %2, %3;" : "=r"(at) : "r"(row + kFirst), "n"(kStride), "r"(origin));
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
                 : "r"(at));
#else
    memcpy(c, first + row * (4 * kTableCopies), 16);
#endif
  }
};

// 2^exponent, a normal number.
TI_HOST_DEVICE float float_power_of_two(int exponent) {
  return bits_float(static_cast<uint32_t>(exponent + 127) << 23);
}

struct alignas(16) FourThresholds {
  int32_t of[kUnitsOfBlock];
};

// Of units 4 unit_block ... 4 unit_block + 3 of a chain, in the task's half-step `half_step`. `key`
// is the task's, or the keys of the rounds.
template <typename Key, typename FetchRow>
TI_HOST_DEVICE FourThresholds four_thresholds(const GibbsTask& task, const Key& key,
                                              int64_t half_step, uint32_t chain,
                                              uint32_t unit_block, const FetchRow& fetch_row) {
  const uint64_t at = task.first_step + static_cast<uint64_t>(half_step / 2);
  const PhiloxBlock words = philox4x32_10(
      gibbs_counter(unit_block, task.first_chain + chain, at, side_of(task, half_step)), key);
  // What is known of every logistic distribution, so that the compiler knows it.
  Distribution logistic{};
  logistic.kind = DistributionKind::kQuantile;
  logistic.table_f32.symmetric = true;
  logistic.f32.scale = float_power_of_two(*task.shift);
  FourThresholds thresholds;
#pragma unroll
  for (int k = 0; k < kUnitsOfBlock; ++k) {
    thresholds.of[k] = floor_to_int(value_from_word(words.word[k], logistic, fetch_row));
  }
  return thresholds;
}

template <typename FetchRow>
TI_HOST_DEVICE FourThresholds thresholds_of(const GibbsTask& task, int64_t half_step, int64_t chain,
                                            int64_t unit, const FetchRow& fetch_row) {
  return four_thresholds(task, task.key, half_step, static_cast<uint32_t>(chain),
                         static_cast<uint32_t>(unit / kUnitsOfBlock), fetch_row);
}

// Of units one after the other, wherever they lie.
struct UnitConstants {
  const int32_t* bias;
  const int32_t* sums;  // of their weights
};

TI_HOST_DEVICE int32_t field_of_sum(const GibbsTask& task, int to, int32_t sum, int32_t bias,
                                    int32_t sum_of_weights) {
  return field_of(bias, sum_of_weights, sum, task.spin[1 - to], task.spin[to]);
}

// Of a sum of grey levels.
TI_HOST_DEVICE int64_t field_of_sum(const GibbsTask& task, int to, int64_t sum, int32_t bias,
                                    int32_t) {
  return grey_field_of(bias, sum, task.spin[to]);
}

// Those of grey levels are kLevels times as large.
TI_HOST_DEVICE bool exceeds_threshold(int32_t field, int32_t threshold) {
  return field > threshold;
}
TI_HOST_DEVICE bool exceeds_threshold(int64_t field, int32_t threshold) {
  return field > threshold * kLevels;
}

template <typename Field>
TI_HOST_DEVICE bool is_on(const GibbsTask& task, int to, int64_t chain, int64_t unit, Field field,
                          int32_t threshold) {
  constexpr int64_t kLevelsOfField = sizeof(Field) == sizeof(int64_t) ? kLevels : 1;
  if (!tempered(task, to)) return exceeds_threshold(field, threshold);
  return exceeds(field, base_of(task, to, unit), threshold, kLevelsOfField,
                 beta_of(task, to, chain, unit));
}

// Whether a unit of a chain is on, given its sum and whether it was. Writes its mean, if the
// half-step does; what it returns of one that does not sample is naught.
template <typename Sum>
TI_HOST_DEVICE bool next_state(const GibbsTask& task, int64_t half_step, int64_t chain,
                               int64_t unit, Sum sum, int32_t threshold, int32_t bias,
                               int32_t sum_of_weights, bool before) {
  const int to = side_of(task, half_step);
  const auto field = field_of_sum(task, to, sum, bias, sum_of_weights);
  if (writes_means(task, half_step)) {
    const int32_t beta = beta_of(task, to, chain, unit);
    task.means[chain * task.side[to].units + unit] =
        fixed_mean(real_field(ones_of(field), float_power_of_two(-*task.shift), beta));
  }
  const bool kept = to == kVisible && task.clamped != nullptr && task.clamped[unit] != 0;
  const bool sampled = is_on(task, to, chain, unit, field, threshold);
  return kept ? before : sampled;
}

// Bit k: whether unit `unit` + k is on, given the sums and states of four units.
TI_HOST_DEVICE uint32_t four_states(const GibbsTask& task, int64_t half_step, int64_t chain,
                                    int64_t unit, const int32_t sum[kUnitsOfBlock],
                                    const FourThresholds& thresholds,
                                    const UnitConstants& constants, uint32_t before) {
  const int to = side_of(task, half_step);
  uint32_t on = 0;
#pragma unroll
  for (int k = 0; k < kUnitsOfBlock; ++k) {
    if (unit + k < task.side[to].units) {
      const int32_t sum_of_weights = task.spin[1 - to] != 0 ? constants.sums[k] : 0;
      const bool is_on = next_state(task, half_step, chain, unit + k, sum[k], thresholds.of[k],
                                    constants.bias[k], sum_of_weights, (before >> k & 1u) != 0);
      on |= is_on ? 1u << k : 0u;
    }
  }
  return on;
}

TI_HOST_DEVICE int64_t float_items(const FloatTask& task) {
  return task.chains * float_blocks(task);
}

template <typename Block, typename FetchRow>
TI_HOST_DEVICE void sample_float(const Block& block, const FloatTask& task,
                                 const FetchRow& fetch_row) {
  share(block, float_items(task), [&](int64_t item) {
    sample_float_block(task, item / float_blocks(task), item % float_blocks(task), fetch_row);
  });
}

}  // namespace torch_init
