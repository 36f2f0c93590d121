// SPDX-License-Identifier: Apache-2.0
//
// Sampling units whose fields are floating point, each from the word that an exact chain would use.
// Given the same fields, the same bits everywhere; but fields come from a matrix product, whose
// rounding is the device's own.
#pragma once

#include "gibbs/half_step.h"
#include "gibbs/log_weight.h"

namespace torch_init {

enum class FloatUnit : int32_t {
  kBernoulli = 0,  // on with probability sigmoid(field)
  kGaussian = 1,   // normal(field, std)
  kRelu = 2,       // max(0, field + normal(0, sqrt(sigmoid(field)))): Nair & Hinton 2010
  kSoftmax = 3,    // one of `categories` with probabilities softmax(fields)
};

struct FloatTask {
  FloatUnit unit;
  const float* field;  // [chains][units], for kSoftmax [chains][units][categories]
  uint8_t* states;     // of kBernoulli [chains][units], of kSoftmax one-hot, as the fields
  float* values;       // of the others [chains][units]
  const float* std;    // of kGaussian [units]; null: 1
  int64_t chains;
  int64_t units;
  int64_t categories;
  uint64_t key;
  uint32_t first_chain;
  uint64_t step;
  int32_t side;
  Distribution table;  // logistic(0, 1) for kBernoulli, normal(0, 1) for kGaussian and kRelu
};

TI_HOST_DEVICE float square_root(float x) {
#if defined(__CUDA_ARCH__)
  return __fsqrt_rn(x);
#else
  return __builtin_sqrtf(x);
#endif
}

TI_HOST_DEVICE float sigmoid(float x) {
  const double e = exp_of_minus(static_cast<double>(x < 0 ? -x : x));
  return static_cast<float>((x < 0 ? e : 1.0) / (1.0 + e));
}

TI_HOST_DEVICE float noisy_relu(float field, float normal) {
  const float value = fma_rn(normal, square_root(sigmoid(field)), field);
  return value < 0.0f ? 0.0f : value;
}

// The first category whose cumulated weight exceeds the word's share of the total; weights are
// exp(field - greatest field), added up in order.
TI_HOST_DEVICE void one_hot(const float* field, int64_t categories, uint32_t word,
                            uint8_t* states) {
  float greatest = field[0];
  for (int64_t k = 1; k < categories; ++k) greatest = field[k] > greatest ? field[k] : greatest;
  const auto weight = [&](int64_t k) {
    return exp_of_minus(static_cast<double>(greatest) - static_cast<double>(field[k]));
  };
  double total = 0.0;
  for (int64_t k = 0; k < categories; ++k) total += weight(k);
  const double share = (static_cast<double>(static_cast<int64_t>(word)) + 0.5) * power_of_two(-32);
  const double target = share * total;
  double cumulated = 0.0;
  bool found = false;
  for (int64_t k = 0; k < categories; ++k) {
    cumulated += weight(k);
    const bool is_it = !found && (cumulated > target || k == categories - 1);
    states[k] = is_it;
    found |= is_it;
  }
}

// The unit at place `at` of [chains][units].
template <typename FetchRow>
TI_HOST_DEVICE void sample_float_unit(const FloatTask& task, int64_t at, uint32_t word,
                                      const FetchRow& fetch_row) {
  if (task.unit == FloatUnit::kSoftmax) {
    const int64_t first = at * task.categories;
    one_hot(task.field + first, task.categories, word, task.states + first);
    return;
  }
  const float field = task.field[at];
  const float value = value_from_word(word, task.table, fetch_row);
  if (task.unit == FloatUnit::kBernoulli) {
    task.states[at] = field > value;
  } else if (task.unit == FloatUnit::kGaussian) {
    task.values[at] = fma_rn(value, task.std == nullptr ? 1.0f : task.std[at % task.units], field);
  } else {
    task.values[at] = noisy_relu(field, value);
  }
}

// Units 4 * block ... 4 * block + 3 of a chain.
template <typename FetchRow>
TI_HOST_DEVICE void sample_float_block(const FloatTask& task, int64_t chain, int64_t block,
                                       const FetchRow& fetch_row) {
  const uint32_t global_chain = task.first_chain + static_cast<uint32_t>(chain);
  const PhiloxBlock words = philox4x32_10(
      gibbs_counter(static_cast<uint32_t>(block), global_chain, task.step, task.side), task.key);
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int64_t unit = 4 * block + k;
    if (unit < task.units)
      sample_float_unit(task, chain * task.units + unit, words.word[k], fetch_row);
  }
}

TI_HOST_DEVICE int64_t float_blocks(const FloatTask& task) { return (task.units + 3) / 4; }

}  // namespace torch_init
