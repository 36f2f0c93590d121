// SPDX-License-Identifier: Apache-2.0
//
// The CUDA kernels' bodies, which the host's tests run too. Between half-steps states are packed:
// bit c of byte [o][i] is unit i of chain 8 o + c, so that a thread reads what eight chains have of
// a source as one byte, and writes what it sampled of a unit as one.
#pragma once

#include "gibbs/float_units.h"
#include "gibbs/half_step.h"
#include "gibbs/mean.h"
#include "portable/thread_block.h"

namespace torch_init {

constexpr int kGibbsThreads = 64;
constexpr int kOctet = 8;
constexpr int kUnitsPerThread = 4;  // of one Philox block
// Grey levels need 64-bit sums: fewer chains fit in registers.
constexpr int kGreyChains = 2;

// One half-step of all chains, the `half_step`-th of the task.
struct GibbsStep {
  GibbsTask task;
  int64_t half_step;
  uint8_t* packed[2];  // [octets][padded units]
};

TI_HOST_DEVICE int64_t octets(const GibbsTask& task) { return (task.chains + kOctet - 1) / kOctet; }

// What must be packed before the first half-step, and unpacked after the last.
inline bool must_pack(const GibbsTask& task, int side) {
  const bool kept = side == kVisible && task.clamped != nullptr;
  return task.half_steps > 0 && (side != task.first_side || kept);
}

inline bool must_unpack(const GibbsTask& task, int side) {
  const int64_t last = task.half_steps - (side_of(task, task.half_steps - 1) == side ? 1 : 2);
  return last >= 0 && samples(task, last);
}

inline GibbsStep first_gibbs_step(const GibbsTask& task, uint8_t* workspace) {
  uint8_t* const hidden = workspace + octets(task) * padded(task.side[kVisible].units);
  return {task, 0, {workspace, hidden}};
}

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

TI_HOST_DEVICE int64_t pack_items(const GibbsStep& step, int side) {
  return octets(step.task) * padded(step.task.side[side].units);
}

template <typename Block>
TI_HOST_DEVICE void pack_states(const Block& block, const GibbsStep& step, int side) {
  const int64_t units = step.task.side[side].units;
  share(block, pack_items(step, side), [&](int64_t item) {
    const int64_t octet = item / padded(units);
    const int64_t unit = item % padded(units);
    uint32_t bits = 0;
    for (int c = 0; c < kOctet; ++c) {
      const int64_t chain = octet * kOctet + c;
      if (unit >= units || chain >= step.task.chains) continue;
      bits |= static_cast<uint32_t>(step.task.state[side][chain * units + unit] != 0) << c;
    }
    step.packed[side][item] = static_cast<uint8_t>(bits);
  });
}

template <typename Block>
TI_HOST_DEVICE void unpack_states(const Block& block, const GibbsStep& step, int side) {
  const int64_t units = step.task.side[side].units;
  share(block, pack_items(step, side), [&](int64_t item) {
    const int64_t octet = item / padded(units);
    const int64_t unit = item % padded(units);
    for (int c = 0; c < kOctet; ++c) {
      const int64_t chain = octet * kOctet + c;
      if (unit >= units || chain >= step.task.chains) continue;
      step.task.state[side][chain * units + unit] = (step.packed[side][item] >> c) & 1;
    }
  });
}

// Bit k: whether unit `unit` + k of a chain is on, given the four sums.
template <typename Sum, typename FetchRow>
TI_HOST_DEVICE uint32_t sample_units(const GibbsStep& step, int64_t chain, int64_t unit,
                                     const Sum sum[kUnitsPerThread], bool grey,
                                     const FetchRow& fetch_row) {
  const GibbsTask& task = step.task;
  const int to = side_of(task, step.half_step);
  const SideWeights& side = task.side[to];
  const uint64_t at = task.first_step + static_cast<uint64_t>(step.half_step / 2);
  const PhiloxBlock words =
      philox4x32_10(gibbs_counter(static_cast<uint32_t>(unit / kUnitsPerThread),
                                  task.first_chain + static_cast<uint32_t>(chain), at, to),
                    task.key);
  uint32_t on = 0;
  for (int k = 0; k < kUnitsPerThread; ++k) {
    if (unit + k >= side.units) break;
    const int32_t bias = side.bias[unit + k];
    const int32_t threshold =
        floor_to_int(value_from_word(words.word[k], task.threshold, fetch_row));
    int64_t field;
    if (grey) {
      field = grey_field_of(bias, sum[k], task.spin[to]);
    } else {
      field = field_of(bias, side.sums[unit + k], static_cast<int32_t>(sum[k]), task.spin[1 - to],
                       task.spin[to]);
    }
    const int32_t beta = beta_of(task, to, chain, unit + k);
    if (writes_means(task, step.half_step)) {
      const float ones = grey ? ones_of(field) : ones_of(static_cast<int32_t>(field));
      task.means[chain * side.units + unit + k] = fixed_mean(real_field(ones, task.scale, beta));
    }
    const bool is_on =
        exceeds(field, base_of(task, to, unit + k), threshold, grey ? kLevels : 1, beta);
    on |= static_cast<uint32_t>(is_on) << k;
  }
  return on;
}

TI_HOST_DEVICE int64_t step_items(const GibbsStep& step) {
  const int64_t units = step.task.side[side_of(step.task, step.half_step)].units;
  return octets(step.task) * (padded(units) / kUnitsPerThread);
}

// A thread adds up the weights of four units for eight chains, and samples them.
template <typename Block, typename FetchRow>
TI_HOST_DEVICE void half_step_block(const Block& block, const GibbsStep& step,
                                    const FetchRow& fetch_row) {
  const GibbsTask& task = step.task;
  const int to = side_of(task, step.half_step);
  const SideWeights& side = task.side[to];
  const int64_t groups = padded(side.units) / kUnitsPerThread;
  share(block, step_items(step), [&](int64_t item) {
    const int64_t octet = item / groups;
    const int64_t unit = item % groups * kUnitsPerThread;
    const uint8_t* const sources = step.packed[1 - to] + octet * padded(side.sources);
    int32_t sum[kOctet][kUnitsPerThread] = {};
    for (int64_t i = 0; i < side.sources; ++i) {
      const int32_t* const weight = side.by_source + i * side.by_source_stride + unit;
      const uint32_t on = sources[i];
      int32_t w[kUnitsPerThread];
      memcpy(w, __builtin_assume_aligned(weight, 16), sizeof w);
#pragma unroll
      for (int c = 0; c < kOctet; ++c) {
        const int32_t mask = -static_cast<int32_t>((on >> c) & 1u);
#pragma unroll
        for (int k = 0; k < kUnitsPerThread; ++k) sum[c][k] += w[k] & mask;
      }
    }

    uint32_t states[kUnitsPerThread] = {};
#pragma unroll
    for (int c = 0; c < kOctet; ++c) {
      const int64_t chain = octet * kOctet + c;
      if (chain < task.chains) {
        const uint32_t on = sample_units(step, chain, unit, sum[c], false, fetch_row);
        for (int k = 0; k < kUnitsPerThread; ++k) states[k] |= ((on >> k) & 1u) << c;
      }
    }
    uint8_t* const out = step.packed[to] + octet * padded(side.units) + unit;
    for (int k = 0; k < kUnitsPerThread; ++k) {
      const bool kept = to == kVisible && task.clamped != nullptr && unit + k < side.units &&
                        task.clamped[unit + k] != 0;
      if (!kept) out[k] = static_cast<uint8_t>(states[k]);
    }
  });
}

TI_HOST_DEVICE int64_t grey_items(const GibbsStep& step) {
  const int64_t pairs = (step.task.chains + kGreyChains - 1) / kGreyChains;
  return pairs * (padded(step.task.side[kHidden].units) / kUnitsPerThread);
}

// The hidden units given grey levels, from bytes to bytes.
template <typename Block, typename FetchRow>
TI_HOST_DEVICE void grey_block(const Block& block, const GibbsStep& step,
                               const FetchRow& fetch_row) {
  const GibbsTask& task = step.task;
  const SideWeights& side = task.side[kHidden];
  const int64_t groups = padded(side.units) / kUnitsPerThread;
  share(block, grey_items(step), [&](int64_t item) {
    const int64_t first = item / groups * kGreyChains;
    const int64_t unit = item % groups * kUnitsPerThread;
    int64_t sum[kGreyChains][kUnitsPerThread] = {};
    for (int64_t i = 0; i < side.sources; ++i) {
      const int32_t* const weight = side.by_source + i * side.by_source_stride + unit;
#pragma unroll
      for (int c = 0; c < kGreyChains; ++c) {
        const int64_t chain = first + c < task.chains ? first + c : first;
        const int64_t level = task.state[kVisible][chain * side.sources + i];
        for (int k = 0; k < kUnitsPerThread; ++k) sum[c][k] += level * weight[k];
      }
    }
#pragma unroll
    for (int c = 0; c < kGreyChains; ++c) {
      if (first + c < task.chains) {
        const uint32_t on = sample_units(step, first + c, unit, sum[c], true, fetch_row);
        for (int k = 0; k < kUnitsPerThread && unit + k < side.units; ++k) {
          if (!samples(task, step.half_step)) break;
          task.state[kHidden][(first + c) * side.units + unit + k] = (on >> k) & 1;
        }
      }
    }
  });
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
