// SPDX-License-Identifier: Apache-2.0
//
// A layer's weights and biases as integers in units of 2^-shift.
#pragma once

#include "gibbs/kernels.h"

namespace torch_init {

// At most this many fractional bits: a threshold, less than 23 * 2^shift, fits 32 bits.
constexpr int kMostShift = 26;
// Magnitudes that no weight may exceed, and no unit's sum of magnitudes of weights and bias.
constexpr int64_t kMostWeight = (int64_t{1} << 23) - (int64_t{1} << 16);
constexpr int64_t kMostSum = int64_t{kCappedMagnitude} - 1;

template <typename Real>
struct Layer {
  const Real* weight;   // [visible][hidden]
  const Real* bias[2];  // of the visible and of the hidden side
  int64_t units[2];
};

// Matrices as in SideWeights; every array is padded, with zeros.
struct QuantizedLayer {
  int32_t* by_visible;  // [visible][padded hidden]
  int32_t* by_hidden;   // [hidden][padded visible]
  int32_t* bias[2];     // [padded units]
  int32_t* sums[2];
};

// Writes the layer and its shift, the greatest that keeps the limits above. Returns false if a
// number is not finite or its magnitude is not less than 2^64.
bool quantize_layer(const Layer<float>& layer, const GibbsKernels& kernels, int max_threads,
                    const QuantizedLayer& out, int* shift);
bool quantize_layer(const Layer<double>& layer, const GibbsKernels& kernels, int max_threads,
                    const QuantizedLayer& out, int* shift);

}  // namespace torch_init
