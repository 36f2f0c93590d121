// SPDX-License-Identifier: Apache-2.0
#include "gibbs/quantize.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "gibbs/transpose.h"
#include "portable/float_environment.h"
#include "portable/thread_team.h"

namespace torch_init {
namespace {

// Rows or columns that a thread takes at a time, and weights that make it worth starting one.
constexpr int64_t kPiece = 64;
constexpr int64_t kWeightsPerThread = int64_t{1} << 17;

int32_t round_to_int(double x) {
  return static_cast<int32_t>(static_cast<uint32_t>(double_bits(x + 0x1.8p52)));
}

// The greatest shift <= `shift` that keeps magnitude * 2^shift, rounded, at or below a limit.
int shift_that_keeps(double magnitude, int64_t limit, int shift) {
  while (magnitude * power_of_two(shift) > static_cast<double>(limit) + 0.5) --shift;
  return shift;
}

// Sums over the rows that one thread took.
struct ColumnSums {
  std::vector<uint32_t> sums;
  std::vector<uint32_t> magnitudes;
};

template <typename Real>
class Quantizer {
 public:
  Quantizer(const Layer<Real>& layer, const QuantizeKernels<Real>& kernels, int max_threads,
            const QuantizedLayer& out)
      : layer_(layer), kernels_(kernels), out_(out) {
    const int64_t weights = layer.units[kVisible] * layer.units[kHidden];
    const int64_t useful = std::max<int64_t>(1, weights / kWeightsPerThread);
    threads_ = static_cast<int>(std::min<int64_t>(useful, std::max(1, max_threads)));
  }

  bool run(int* shift) {
    const double weight = greatest_weight();
    double bias = 0.0;
    for (int side : {kVisible, kHidden}) {
      const double of_side = kernels_.greatest_magnitude(layer_.bias[side], layer_.units[side]);
      if (!(of_side < 0x1p64)) return false;
      bias = std::max(bias, of_side);
    }
    if (!(weight < 0x1p64)) return false;
    *shift = shift_that_keeps(bias, kMostSum, shift_that_keeps(weight, kMostWeight, kMostShift));
    while (!quantize(power_of_two(*shift))) --*shift;
    transpose();
    for (int side : {kVisible, kHidden}) {
      pad(out_.bias[side], 1, layer_.units[side]);
      pad(out_.sums[side], 1, layer_.units[side]);
    }
    return true;
  }

 private:
  // Calls body(thread, first, count) for pieces of `count` rows or columns.
  template <typename Body>
  void in_pieces(int64_t count, const Body& body) const {
    std::atomic<int64_t> next{0};
    ThreadTeam().run(threads_, [&](int thread) {
      const DefaultFloatEnvironment environment;
      for (int64_t first; (first = next.fetch_add(kPiece)) < count;) {
        body(static_cast<size_t>(thread), first, std::min(kPiece, count - first));
      }
    });
  }

  double greatest_weight() const {
    std::vector<double> greatest(static_cast<size_t>(threads_), 0.0);
    in_pieces(layer_.units[kVisible], [&](size_t thread, int64_t first, int64_t count) {
      const int64_t columns = layer_.units[kHidden];
      const double found =
          kernels_.greatest_magnitude(layer_.weight + first * columns, count * columns);
      // In this order a NaN stays.
      if (!(found <= greatest[thread])) greatest[thread] = found == found ? found : kNotFinite;
    });
    return *std::max_element(greatest.begin(), greatest.end());
  }

  // Zeros after the `columns` of each row.
  static void pad(int32_t* rows, int64_t count, int64_t columns) {
    const int64_t stride = padded(columns);
    for (int64_t r = 0; r < count; ++r) {
      std::fill(rows + r * stride + columns, rows + (r + 1) * stride, 0);
    }
  }

  // Returns whether every sum of magnitudes keeps its limit.
  bool quantize(double scale) const {
    const int64_t visible = layer_.units[kVisible];
    const int64_t hidden = layer_.units[kHidden];
    std::vector<uint32_t> row_magnitudes(static_cast<size_t>(visible), 0);
    std::vector<ColumnSums> of_thread(static_cast<size_t>(threads_));
    uint32_t* const row_sums = reinterpret_cast<uint32_t*>(out_.sums[kVisible]);
    std::fill_n(row_sums, visible, 0u);
    in_pieces(visible, [&](size_t thread, int64_t first, int64_t count) {
      ColumnSums& columns = of_thread[thread];
      columns.sums.resize(static_cast<size_t>(hidden), 0);
      columns.magnitudes.resize(static_cast<size_t>(hidden), 0);
      kernels_.rows({layer_.weight + first * hidden, count, hidden, scale,
                     out_.by_visible + first * padded(hidden), padded(hidden), row_sums + first,
                     row_magnitudes.data() + first, columns.sums.data(),
                     columns.magnitudes.data()});
      pad(out_.by_visible + first * padded(hidden), count, hidden);
    });

    bool fits = true;
    for (int64_t i = 0; i < visible; ++i) {
      fits &= add_bias(kVisible, i, scale, row_magnitudes[static_cast<size_t>(i)]);
    }
    for (int64_t j = 0; j < hidden; ++j) {
      uint32_t sum = 0;
      int64_t magnitude = 0;
      for (const ColumnSums& columns : of_thread) {
        if (columns.sums.empty()) continue;
        sum += columns.sums[static_cast<size_t>(j)];
        magnitude += columns.magnitudes[static_cast<size_t>(j)];
      }
      out_.sums[kHidden][j] = static_cast<int32_t>(sum);
      fits &= add_bias(kHidden, j, scale, magnitude);
    }
    return fits;
  }

  bool add_bias(int side, int64_t unit, double scale, int64_t magnitude) const {
    const int32_t bias = round_to_int(static_cast<double>(layer_.bias[side][unit]) * scale);
    out_.bias[side][unit] = bias;
    return magnitude + (bias < 0 ? -int64_t{bias} : bias) <= kMostSum;
  }

  void transpose() const {
    const int64_t in_stride = padded(layer_.units[kHidden]);
    const int64_t out_stride = padded(layer_.units[kVisible]);
    const int64_t rows = layer_.units[kVisible];
    const int64_t columns = layer_.units[kHidden];
    in_pieces(columns, [&](size_t, int64_t first, int64_t count) {
      for (int64_t j = first; j < first + count; j += kRowAlignment) {
        const int64_t end = std::min(j + kRowAlignment, columns);
        for (int64_t i = 0; i < rows; i += 4) {
          int64_t block = j;
          if (i + 4 <= rows) {
            for (; block + 4 <= end; block += 4) {
              transpose_4x4<int32_t, int32_t>(out_.by_visible + i * in_stride + block, in_stride,
                                              out_.by_hidden + block * out_stride + i, out_stride);
            }
          }
          for (; block < end; ++block) {
            for (int64_t r = i; r < std::min(i + 4, rows); ++r) {
              out_.by_hidden[block * out_stride + r] = out_.by_visible[r * in_stride + block];
            }
          }
        }
      }
      pad(out_.by_hidden + first * out_stride, count, rows);
    });
  }

  static constexpr double kNotFinite = __builtin_huge_val();
  const Layer<Real>& layer_;
  const QuantizeKernels<Real>& kernels_;
  const QuantizedLayer& out_;
  int threads_;
};

}  // namespace

bool quantize_layer(const Layer<float>& layer, const GibbsKernels& kernels, int max_threads,
                    const QuantizedLayer& out, int* shift) {
  const DefaultFloatEnvironment environment;
  return Quantizer<float>(layer, kernels.quantize_f32, max_threads, out).run(shift);
}

bool quantize_layer(const Layer<double>& layer, const GibbsKernels& kernels, int max_threads,
                    const QuantizedLayer& out, int* shift) {
  const DefaultFloatEnvironment environment;
  return Quantizer<double>(layer, kernels.quantize_f64, max_threads, out).run(shift);
}

}  // namespace torch_init
