// SPDX-License-Identifier: Apache-2.0
//
// What one instruction set does to run Gibbs chains. Every tier returns the same bits.
#pragma once

#include "gibbs/ascend.h"
#include "gibbs/float_units.h"
#include "gibbs/half_step.h"
#include "gibbs/log_weight.h"
#include "gibbs/statistics.h"

namespace torch_init {

// A sum of magnitudes greater than any allowed, at which sums stop.
constexpr uint32_t kCappedMagnitude = uint32_t{1} << 30;

// Rows of a weight matrix to be rounded to integers; their sums are added to those given.
template <typename Real>
struct QuantizeRows {
  const Real* weight;  // [rows][columns]
  int64_t rows;
  int64_t columns;
  double scale;
  int32_t* out;  // [rows][out_stride]
  int64_t out_stride;
  uint32_t* row_sums;
  uint32_t* row_magnitudes;
  uint32_t* column_sums;
  uint32_t* column_magnitudes;
};

template <typename Real>
struct QuantizeKernels {
  // Of a magnitude that is not finite, infinity or NaN.
  double (*greatest_magnitude)(const Real* values, int64_t count);
  void (*rows)(const QuantizeRows<Real>& task);
};

struct GibbsKernels {
  // The most chains that one call takes: as many as share what is read of the weights.
  int64_t most_chains;
  // Bytes of scratch memory that `run` needs for so many chains.
  int64_t (*scratch_size)(const GibbsTask& task, int64_t count);
  // All half-steps of chains first ... first + count - 1 of the task. `scratch` is aligned to 64
  // bytes.
  void (*run)(const GibbsTask& task, int64_t first, int64_t count, void* scratch);
  QuantizeKernels<float> quantize_f32;
  QuantizeKernels<double> quantize_f64;
  StatisticsKernels statistics;
  AscendKernels ascend;
  SoftplusSums (*softplus_sums)(const int32_t* fields, int64_t count, const double scale[2]);
  void (*sample_float)(const FloatTask& task, int64_t chain);
  int64_t (*sum_of_on)(const uint8_t* states, const int32_t* weights, int64_t count);
};

}  // namespace torch_init
