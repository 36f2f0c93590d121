// SPDX-License-Identifier: Apache-2.0
//
// Weights as the tensor cores take them: each in three signed bytes,
//
//     w = limb 0 + 2^8 limb 1 + 2^16 limb 2,   |w| <= kMostWeight,
//
// so that a sum of selected weights is three integer sums. Of each side there is a copy, blocks of
// 32 units x 32 sources:
//
//     [groups of 32 units][steps of 32 sources][2 halves of 16 units][3 limbs][32 lanes][16 bytes]
//
// Lane 4 g + t of a half holds the fragment A of a product (portable/warp.h) whose rows g and g + 8
// are units 2 g and 2 g + 1 of the half, neighbours, and whose columns are the step's sources in
// such an order that the lane's are those of bits 2 t and 2 t + 1 of the four bytes of a word of
// states: a shift and a mask make the four bytes of a fragment B. What lies beyond the layer is
// zeros.
#pragma once

#include "gibbs/half_step.h"
#include "portable/warp.h"

namespace torch_init {

constexpr int kLimbs = 3;
constexpr int kGroupUnits = 32;
constexpr int kHalfUnits = 16;
constexpr int kStepSources = 32;
constexpr int kLaneBytes = 16;
constexpr int kBlockBytes = kGroupUnits * kStepSources * kLimbs;
constexpr int kHalfBytes = kBlockBytes / 2;

// Of units, and of sources: one side's groups are the other side's steps.
TI_HOST_DEVICE int64_t groups_of(int64_t units) { return (units + kGroupUnits - 1) / kGroupUnits; }

TI_HOST_DEVICE int64_t limbs_size(int64_t units, int64_t sources) {
  return groups_of(units) * groups_of(sources) * kBlockBytes;
}

// The source, of a step's, in byte `byte` of word `word` of what lane 4 g + t has of a fragment B;
// fragments A repeat the words for either row.
TI_HOST_DEVICE int source_of_byte(int lane, int word, int byte) {
  return 8 * byte + 2 * (lane % 4) + word;
}

// A limb of a weight as a byte.
TI_HOST_DEVICE uint32_t limb_of(int32_t weight, int limb) {
  for (int i = 0; i < limb; ++i) {
    const int32_t low = static_cast<int8_t>(weight & 255);
    weight = (weight - low) / 256;
  }
  return static_cast<uint32_t>(weight) & 255u;
}

// A lane's fragments of one half of a block; weight(u, s) is that of its unit u and its source s.
template <typename Weight>
TI_HOST_DEVICE void write_fragment(uint8_t* block, int half, int lane, const Weight& weight) {
  const int unit = half * kHalfUnits + 2 * (lane / 4);
  uint32_t words[kLimbs][4] = {};
#pragma unroll
  for (int r = 0; r < 4; ++r) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int32_t w = weight(unit + r % 2, source_of_byte(lane, r / 2, i));
#pragma unroll
      for (int l = 0; l < kLimbs; ++l) words[l][r] |= limb_of(w, l) << (8 * i);
    }
  }
#pragma unroll
  for (int l = 0; l < kLimbs; ++l) {
    uint8_t* const at = block + half * kHalfBytes + (l * kWarpLanes + lane) * kLaneBytes;
    memcpy(__builtin_assume_aligned(at, kLaneBytes), words[l], kLaneBytes);
  }
}

// The limbs of one side of a layer.
struct LimbTask {
  const int32_t* by_unit;  // [units][padded sources]
  int64_t units;
  int64_t sources;
  uint8_t* out;  // [limbs_size], aligned to 16 bytes
};

TI_HOST_DEVICE int64_t limb_items(const LimbTask& task) {
  return groups_of(task.units) * groups_of(task.sources) * 2 * kWarpLanes;
}

// One lane's fragments of one half of a block: [group][step][half][lane].
TI_HOST_DEVICE void write_limbs(const LimbTask& task, int64_t item) {
  const int lane = static_cast<int>(item % kWarpLanes);
  const int half = static_cast<int>(item / kWarpLanes % 2);
  const int64_t block = item / (2 * kWarpLanes);
  const int64_t steps = groups_of(task.sources);
  write_fragment(task.out + block * kBlockBytes, half, lane, [&](int u, int s) {
    const int64_t unit = block / steps * kGroupUnits + u;
    const int64_t source = block % steps * kStepSources + s;
    const bool exists = unit < task.units && source < task.sources;
    return exists ? task.by_unit[unit * padded(task.sources) + source] : 0;
  });
}

}  // namespace torch_init
