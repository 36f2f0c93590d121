// SPDX-License-Identifier: Apache-2.0
#include "distributions/lower.h"

#include <utility>

#include "distributions/rounding.h"

namespace torch_init {
namespace {

constexpr double kInfinity = __builtin_huge_val();

// The non-negative values of a format, numbered in increasing order from 0.
struct Grid {
  int exponent_bits;
  int mantissa_bits;
  uint64_t largest;  // number of the largest finite value
};

Grid grid_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return {11, 52, 0x7fefffffffffffffu};
    case DType::kBFloat16:
      return {8, 7, 0x7f7f};
    case DType::kFloat16:
      return {5, 10, kFormatFloat16.largest};
    case DType::kFloat8E4M3FN:
      return {4, 3, kFormatFloat8E4M3FN.largest};
    case DType::kFloat8E5M2:
      return {5, 2, kFormatFloat8E5M2.largest};
    default:
      return {8, 23, 0x7f7fffff};
  }
}

double grid_value(const Grid& grid, uint64_t number) {
  if (grid.mantissa_bits == 52) return bits_double(number);
  const int bias = (1 << (grid.exponent_bits - 1)) - 1;
  const uint64_t field = number >> grid.mantissa_bits;
  const uint64_t mantissa = number & ((uint64_t{1} << grid.mantissa_bits) - 1);
  const uint64_t implicit = field == 0 ? 0 : uint64_t{1} << grid.mantissa_bits;
  const int exponent = (field == 0 ? 1 : static_cast<int>(field)) - bias - grid.mantissa_bits;
  return static_cast<double>(implicit + mantissa) * power_of_two(exponent);
}

// Number of the largest value <= magnitude (>= 0).
uint64_t grid_floor(const Grid& grid, double magnitude) {
  uint64_t below = 0;
  uint64_t above = grid.largest + 1;
  while (above - below > 1) {
    const uint64_t middle = below + (above - below) / 2;
    (grid_value(grid, middle) <= magnitude ? below : above) = middle;
  }
  return below;
}

// Q(u) and its affine map: location carries the table's centre, so that a bound far from the
// mean is met exactly.
LoweredDistribution lower_quantile(std::shared_ptr<const QuantileTable<float>> table_f32,
                                   std::shared_ptr<const QuantileTable<double>> table_f64,
                                   double location, double scale) {
  LoweredDistribution lowered{};
  Distribution& d = lowered.distribution;
  d.kind = DistributionKind::kQuantile;
  d.f32 = {static_cast<float>(scale), static_cast<float>(location), 0, 0};
  d.f64 = {scale, location, 0, 0};
  if (table_f32) d.table_f32 = table_f32->rows();
  if (table_f64) d.table_f64 = table_f64->rows();
  lowered.table_f32 = std::move(table_f32);
  lowered.table_f64 = std::move(table_f64);
  return lowered;
}

void set_bounds(Distribution& d, double low, double high) {
  d.bounded = true;
  // Adding 0 turns a bound of -0 into +0.
  d.f64.low = low + 0.0;
  d.f64.high = high + 0.0;
  d.f32.low = static_cast<float>(d.f64.low);
  d.f32.high = static_cast<float>(d.f64.high);
}

}  // namespace

double round_down(double x, DType dtype, bool strictly) {
  if (x == -kInfinity) return x;
  const Grid grid = grid_of(dtype);
  if (x > 0) {
    uint64_t number = grid_floor(grid, x);
    if (strictly && grid_value(grid, number) == x) number -= 1;
    return grid_value(grid, number);
  }
  const uint64_t number = grid_floor(grid, -x);
  const bool exact = grid_value(grid, number) == -x;
  if (exact && !strictly) return -grid_value(grid, number);
  return number == grid.largest ? -kInfinity : -grid_value(grid, number + 1);
}

double round_up(double x, DType dtype) { return -round_down(-x, dtype); }

LoweredDistribution lower_constant(double value) {
  LoweredDistribution lowered{};
  lowered.distribution.kind = DistributionKind::kConstant;
  lowered.distribution.f32.location = static_cast<float>(value);
  lowered.distribution.f64.location = value;
  return lowered;
}

LoweredDistribution lower_uniform(double low, double high, DType dtype) {
  LoweredDistribution lowered{};
  Distribution& d = lowered.distribution;
  d.kind = DistributionKind::kUniform;
  d.f32.scale = static_cast<float>((high - low) * 0x1p-24);
  d.f32.location = static_cast<float>(low);
  d.f64.scale = (high - low) * 0x1p-53;
  d.f64.location = low;
  set_bounds(d, round_up(low, dtype), round_down(high, dtype, /*strictly=*/true));
  return lowered;
}

LoweredDistribution lower_truncated_normal(double mean, double std, double lower, double upper,
                                           double low, double high, DType dtype) {
  std::shared_ptr<const QuantileTable<float>> table_f32;
  std::shared_ptr<const QuantileTable<double>> table_f64;
  double center;
  if (dtype == DType::kFloat64) {
    table_f64 = truncated_normal_table<double>(lower, upper);
    center = table_f64->center;
  } else {
    table_f32 = truncated_normal_table<float>(lower, upper);
    center = table_f32->center;
  }
  // A table centred on a bound starts at that bound itself, not at mean + lower * std rounded.
  double location = mean;
  if (center != 0.0) location = center == lower ? low : high;
  LoweredDistribution lowered =
      lower_quantile(std::move(table_f32), std::move(table_f64), location, std);
  if (low > -kInfinity || high < kInfinity) {
    set_bounds(lowered.distribution, round_up(low, dtype), round_down(high, dtype));
  }
  return lowered;
}

LoweredDistribution lower_logistic(double location, double scale, DType dtype) {
  if (dtype == DType::kFloat64) {
    return lower_quantile(nullptr, logistic_table<double>(), location, scale);
  }
  return lower_quantile(logistic_table<float>(), nullptr, location, scale);
}

LoweredDistribution lower_two_point(double probability, double low, double high) {
  const double scaled = probability * 0x1p32 + 0.5;
  if (scaled >= 0x1p32) return lower_constant(high);
  LoweredDistribution lowered{};
  Distribution& d = lowered.distribution;
  d.kind = DistributionKind::kTwoPoint;
  d.threshold = static_cast<uint32_t>(scaled);
  d.f32.low = static_cast<float>(low);
  d.f32.high = static_cast<float>(high);
  d.f64.low = low;
  d.f64.high = high;
  return lowered;
}

LoweredDistribution lower_bits() {
  LoweredDistribution lowered{};
  lowered.distribution.kind = DistributionKind::kBits;
  return lowered;
}

}  // namespace torch_init
