// SPDX-License-Identifier: Apache-2.0
//
// Sampling one side of a restricted Boltzmann machine given the other, one unit of one chain at a
// time: the definition that every tier must agree with (docs/gibbs.md). All of it is integer
// arithmetic but the threshold, a value of the logistic distribution (docs/stream.md).
#pragma once

#include "distributions/distribution.h"
#include "distributions/transform.h"
#include "portable/portable.h"
#include "random/philox.h"

namespace torch_init {

enum Side : int32_t { kVisible = 0, kHidden = 1 };

// Inverse temperatures are integers of this many fractional bits.
constexpr int kBetaBits = 24;
constexpr int64_t kBetaOne = int64_t{1} << kBetaBits;
// A grey level u stands for u / 255.
constexpr int64_t kLevels = 255;
// A fine level u stands for u / 32767, as a mean does (mean.h).
constexpr int64_t kFineLevels = 32767;

// The weights as one side sees them, in units of 2^-shift: `units` are those to be sampled,
// `sources` those of the other side. Both matrices hold the same weights; their rows are padded
// with zeros to `kRowAlignment` integers.
struct SideWeights {
  int64_t units;
  int64_t sources;
  const int32_t* by_unit;    // [units][by_unit_stride]
  const int32_t* by_source;  // [sources][by_source_stride]
  int64_t by_unit_stride;
  int64_t by_source_stride;
  const int32_t* bias;             // [units]
  const int32_t* sums;             // [units], of each unit's weights
  const uint8_t* limbs = nullptr;  // the weights again, for tensor cores (limbs.h)
};

constexpr int64_t kRowAlignment = 16;

TI_HOST_DEVICE int64_t padded(int64_t units) {
  return (units + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
}

// A run of half-steps over chains, each independent of the others.
struct GibbsTask {
  SideWeights side[2];
  int32_t spin[2];         // whether a side's states mean -1 and 1 instead of 0 and 1
  uint8_t* state[2];       // [chains][units], 0 or 1
  const uint8_t* clamped;  // [visible units], nonzero: keeps its state; null: none
  int64_t chains;
  uint64_t key;
  uint32_t first_chain;
  uint64_t first_step;
  int32_t first_side;  // the one that the first half-step samples
  int64_t half_steps;
  int32_t grey;  // the first half-step reads visible states as levels of 255
  // [chains][visible]: what the first half-step, then the only one, reads instead of visible
  // states, at beta 1: fine levels; null: nothing. Of tiers of CPUs alone.
  const int16_t* fine;
  const int32_t* beta;          // [chains], in units of 2^-kBetaBits; null: 1
  const int32_t* unit_beta[2];  // [padded units], a factor more; null: 1
  // With a base, (1 - beta) * base is added to the fields of the visible units; beta is not null.
  const int32_t* base;  // [padded visible units]; null: none
  int32_t* fields;      // [chains][hidden]: where to write the hidden units' fields; null: nowhere
  // [chains][hidden]: where the last half-step, then one of the hidden units, writes their means;
  // null: nowhere. With means_only it does not sample.
  int16_t* means;
  int32_t means_only;
  const int32_t* shift;    // where CUDA kernels find it; the two below are the CPU's
  float scale;             // 2^-shift
  Distribution threshold;  // logistic(0, 2^shift), float32
};

TI_HOST_DEVICE int side_of(const GibbsTask& task, int64_t half_step) {
  return static_cast<int>((task.first_side + half_step) & 1);
}

// The counter of the words of units 4 * block ... 4 * block + 3.
TI_HOST_DEVICE PhiloxBlock gibbs_counter(uint32_t unit_block, uint32_t chain, uint64_t step,
                                         int side) {
  const uint64_t half_step = 2 * step + static_cast<uint64_t>(side);
  return {{unit_block, chain, static_cast<uint32_t>(half_step),
           static_cast<uint32_t>(half_step >> 32)}};
}

// The greatest integer <= x, |x| < 2^31.
TI_HOST_DEVICE int32_t floor_to_int(float x) {
#if defined(__CUDA_ARCH__)
  return __float2int_rd(x);
#endif
  const int32_t truncated = static_cast<int32_t>(x);
  return truncated - (x < static_cast<float>(truncated) ? 1 : 0);
}

// A unit is on if its field exceeds this.
TI_HOST_DEVICE int32_t threshold_of(uint32_t word, const Distribution& logistic) {
  return floor_to_int(value_from_word(word, logistic));
}

// Twice a sum where spins make it so: 2 v - 1 stands for v, and spins see twice the field. The
// scale leaves room for it; what wraps on the way wraps back. A multiple of the sum and a constant.
TI_HOST_DEVICE int32_t field_of(int32_t bias, int32_t sum_of_weights, int32_t sum, int spin_sources,
                                int spin_units) {
  uint32_t constant = static_cast<uint32_t>(bias);
  if (spin_sources != 0) constant -= static_cast<uint32_t>(sum_of_weights);
  const auto slope = static_cast<uint32_t>((1 + spin_sources) * (1 + spin_units));
  return static_cast<int32_t>(static_cast<uint32_t>(sum) * slope + (constant << spin_units));
}

// The same of sources in levels: so many times the field.
TI_HOST_DEVICE int64_t grey_field_of(int32_t bias, int64_t sum, int spin_units,
                                     int64_t levels = kLevels) {
  return (levels * bias + sum) * (int64_t{1} << spin_units);
}

// beta * field + (1 - beta) * base > threshold, with `levels` times both sides; the products fit
// because |field| < 2^31 * levels, and beta <= 2^28, for grey fields and with a base 2^24.
TI_HOST_DEVICE bool exceeds(int64_t field, int64_t base, int32_t threshold, int64_t levels,
                            int32_t beta) {
  return beta * field + (kBetaOne - beta) * base > threshold * levels * kBetaOne;
}

// Whether a side's fields meet an inverse temperature.
TI_HOST_DEVICE bool tempered(const GibbsTask& task, int to) {
  return task.beta != nullptr || task.unit_beta[to] != nullptr;
}

TI_HOST_DEVICE int32_t beta_of(const GibbsTask& task, int to, int64_t chain, int64_t unit) {
  const int64_t of_chain = task.beta == nullptr ? kBetaOne : task.beta[chain];
  if (task.unit_beta[to] == nullptr) return static_cast<int32_t>(of_chain);
  return static_cast<int32_t>((of_chain * task.unit_beta[to][unit]) >> kBetaBits);
}

// The base's field of a unit; 0 where there is no base.
TI_HOST_DEVICE int64_t base_of(const GibbsTask& task, int to, int64_t unit) {
  if (to == kHidden || task.base == nullptr) return 0;
  return int64_t{task.base[unit]} * (int64_t{1} << task.spin[kVisible]);
}

}  // namespace torch_init
