// SPDX-License-Identifier: Apache-2.0
#include "gibbs/quantize.h"

#include <algorithm>
#include <vector>

#include "gibbs/half_step.h"
#include "portable/float_environment.h"

namespace torch_init {
namespace {

// Nearest, ties to even, |x| < 2^31.
int32_t round_to_int(double x) {
  return static_cast<int32_t>(static_cast<uint32_t>(double_bits(x + 0x1.8p52)));
}

// Infinite if a number is not one.
template <typename Real>
double greatest_magnitude(const Real* values, int64_t count) {
  double greatest = 0.0;
  bool numbers = true;
  for (int64_t i = 0; i < count; ++i) {
    const double x = values[i];
    numbers &= x == x;
    greatest = std::max(greatest, x < 0 ? -x : x);
  }
  return numbers ? greatest : __builtin_huge_val();
}

// The greatest shift <= `shift` that keeps magnitude * 2^shift, rounded, at or below a limit.
int shift_that_keeps(double magnitude, int64_t limit, int shift) {
  while (magnitude * power_of_two(shift) > static_cast<double>(limit) + 0.5) --shift;
  return shift;
}

template <typename Real>
class Quantizer {
 public:
  Quantizer(const Real* weight, const Real* visible_bias, const Real* hidden_bias, int64_t visible,
            int64_t hidden, const QuantizedLayer& out)
      : weight_(weight),
        bias_{visible_bias, hidden_bias},
        units_{visible, hidden},
        out_(out),
        magnitudes_{std::vector<int64_t>(static_cast<size_t>(visible)),
                    std::vector<int64_t>(static_cast<size_t>(hidden))} {}

  bool run(int* shift) {
    const double weight = greatest_magnitude(weight_, units_[0] * units_[1]);
    const double bias = std::max(greatest_magnitude(bias_[kVisible], units_[kVisible]),
                                 greatest_magnitude(bias_[kHidden], units_[kHidden]));
    if (!(std::max(weight, bias) < 0x1p64)) return false;
    *shift = shift_that_keeps(bias, kMostSum, shift_that_keeps(weight, kMostWeight, kMostShift));
    while (!quantize(*shift)) --*shift;
    transpose();
    return true;
  }

 private:
  // Returns whether every sum of magnitudes keeps its limit.
  bool quantize(int shift) {
    const double scale = power_of_two(shift);
    for (int side : {kVisible, kHidden}) {
      for (int64_t i = 0; i < units_[side]; ++i) {
        const int32_t bias = round_to_int(bias_[side][i] * scale);
        out_.bias[side][i] = bias;
        out_.sums[side][i] = 0;
        magnitudes_[side][static_cast<size_t>(i)] = bias < 0 ? -bias : bias;
      }
    }
    const int64_t stride = padded(units_[kHidden]);
    for (int64_t i = 0; i < units_[kVisible]; ++i) {
      const Real* const in = weight_ + i * units_[kHidden];
      int32_t* const row = out_.by_visible + i * stride;
      for (int64_t j = 0; j < units_[kHidden]; ++j) {
        const int32_t weight = round_to_int(in[j] * scale);
        const int32_t magnitude = weight < 0 ? -weight : weight;
        row[j] = weight;
        add(&out_.sums[kVisible][i], weight);
        add(&out_.sums[kHidden][j], weight);
        magnitudes_[kVisible][static_cast<size_t>(i)] += magnitude;
        magnitudes_[kHidden][static_cast<size_t>(j)] += magnitude;
      }
    }
    for (const std::vector<int64_t>& of_side : magnitudes_) {
      for (const int64_t magnitude : of_side) {
        if (magnitude > kMostSum) return false;
      }
    }
    return true;
  }

  // A sum that overflows is thrown away: its magnitude is too large as well.
  static void add(int32_t* sum, int32_t x) {
    *sum = static_cast<int32_t>(static_cast<uint32_t>(*sum) + static_cast<uint32_t>(x));
  }

  void transpose() const {
    constexpr int64_t kBlock = 16;
    const int64_t in_stride = padded(units_[kHidden]);
    const int64_t out_stride = padded(units_[kVisible]);
    for (int64_t i = 0; i < units_[kVisible]; i += kBlock) {
      const int64_t rows = std::min(kBlock, units_[kVisible] - i);
      for (int64_t j = 0; j < units_[kHidden]; ++j) {
        for (int64_t r = 0; r < rows; ++r) {
          out_.by_hidden[j * out_stride + i + r] = out_.by_visible[(i + r) * in_stride + j];
        }
      }
    }
  }

  const Real* const weight_;
  const Real* const bias_[2];
  const int64_t units_[2];
  const QuantizedLayer& out_;
  std::vector<int64_t> magnitudes_[2];
};

}  // namespace

template <typename Real>
bool quantize_layer(const Real* weight, const Real* visible_bias, const Real* hidden_bias,
                    int64_t visible, int64_t hidden, int, const QuantizedLayer& out, int* shift) {
  const DefaultFloatEnvironment environment;
  return Quantizer<Real>(weight, visible_bias, hidden_bias, visible, hidden, out).run(shift);
}

template bool quantize_layer(const float*, const float*, const float*, int64_t, int64_t, int,
                             const QuantizedLayer&, int*);
template bool quantize_layer(const double*, const double*, const double*, int64_t, int64_t, int,
                             const QuantizedLayer&, int*);

}  // namespace torch_init
