// SPDX-License-Identifier: Apache-2.0
//
// A layer's weights and biases as integers in units of 2^-shift.
#pragma once

#include <stdint.h>

namespace torch_init {

// At most this many fractional bits: a threshold, less than 23 * 2^shift, fits 32 bits.
constexpr int kMostShift = 26;
// Magnitudes that no weight may exceed, and no unit's sum of magnitudes of weights and bias.
constexpr int64_t kMostWeight = (int64_t{1} << 23) - (int64_t{1} << 16);
constexpr int64_t kMostSum = (int64_t{1} << 30) - 1;

// Matrices as in SideWeights, of `visible` and `hidden` rows; every array is padded with zeros.
struct QuantizedLayer {
  int32_t* by_visible;  // [visible][padded hidden]
  int32_t* by_hidden;   // [hidden][padded visible]
  int32_t* bias[2];     // [padded units] of the visible and of the hidden side
  int32_t* sums[2];
};

// Writes the layer and its shift, the greatest that keeps the limits above. Returns false if a
// number is not finite or not less than 2^64. `weight` is [visible][hidden].
template <typename Real>
bool quantize_layer(const Real* weight, const Real* visible_bias, const Real* hidden_bias,
                    int64_t visible, int64_t hidden, int max_threads, const QuantizedLayer& out,
                    int* shift);

}  // namespace torch_init
