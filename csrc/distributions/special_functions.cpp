// SPDX-License-Identifier: Apache-2.0
#include "distributions/special_functions.h"

#include <cmath>
#include <cstdint>

#include "portable/portable.h"

namespace torch_init {
namespace {

constexpr double kLog2E = 0x1.71547652b82fep+0;
constexpr double kLn2High = 0x1.62e42fee00000p-1;  // 21 trailing zero bits: k * kLn2High is exact
constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
constexpr double kSqrtHalfPi = 0x1.40d931ff62706p+0;
constexpr double kSqrt2 = 0x1.6a09e667f3bcdp+0;

// Below this the power series is short and loses at most a factor 20 to cancellation; above it
// the continued fraction has converged to the last bit after the terms given here.
constexpr double kMillsSeriesLimit = 2.0;
constexpr int kMillsSeriesTerms = 40;
constexpr int kMillsFractionTerms = 100;

constexpr int kNewtonLimit = 64;
constexpr double kNewtonTolerance = 0x1p-50;

}  // namespace

double portable_exp(double x) {
  if (x < -745.0) return 0.0;
  if (x > 709.75) return bits_double(0x7ff0000000000000u);
  const double scaled = x * kLog2E;
  const int k = static_cast<int>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
  const double r = (x - k * kLn2High) - k * kLn2Low;
  double sum = 1.0;
  for (int n = 14; n >= 1; --n) sum = 1.0 + sum * (r / n);
  // Two factors, so that neither leaves the range of normal doubles.
  const int half = k / 2;
  return (sum * power_of_two(half)) * power_of_two(k - half);
}

double portable_log(double x) {
  uint64_t bits = double_bits(x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double mantissa = bits_double((bits & 0x000fffffffffffffu) | 0x3ff0000000000000u);
  if (mantissa > kSqrt2) {
    mantissa = mantissa * 0.5;
    exponent += 1;
  }
  // log(m) = 2 artanh(f), f = (m - 1) / (m + 1), |f| <= 0.1716.
  const double f = (mantissa - 1.0) / (mantissa + 1.0);
  const double f2 = f * f;
  double series = 0.0;
  for (int n = 25; n >= 3; n -= 2) series = (series + 1.0 / n) * f2;
  return exponent * kLn2High + ((2.0 * f + (2.0 * f) * series) + exponent * kLn2Low);
}

double mills_ratio(double z) {
  if (z < kMillsSeriesLimit) {
    // 1 - Phi(z) = 1/2 - phi(z) (z + z^3/3 + z^5/15 + ...), Abramowitz & Stegun 26.2.11.
    double term = z;
    double sum = z;
    for (int k = 1; k < kMillsSeriesTerms; ++k) {
      term = term * (z * z) / (2 * k + 1);
      sum = sum + term;
    }
    return kSqrtHalfPi * portable_exp(0.5 * (z * z)) - sum;
  }
  // Laplace's continued fraction 1/(z + 1/(z + 2/(z + 3/(z + ...)))), A&S 26.2.14.
  double denominator = z;
  for (int k = kMillsFractionTerms; k >= 1; --k) denominator = z + k / denominator;
  return 1.0 / denominator;
}

double normal_log_survival(double a, double r) {
  return (portable_log(mills_ratio(a + r)) - portable_log(mills_ratio(a))) - r * (a + 0.5 * r);
}

double normal_survival_quantile(double a, double log_survival) {
  if (log_survival >= 0.0) return 0.0;
  const double log_mills_at_a = portable_log(mills_ratio(a));
  // Start where the exponent alone, a r + r^2 / 2, accounts for the survival.
  double r = -2.0 * log_survival / (a + std::sqrt(a * a - 2.0 * log_survival));
  for (int iteration = 0; iteration < kNewtonLimit; ++iteration) {
    const double mills = mills_ratio(a + r);
    const double excess =
        ((portable_log(mills) - log_mills_at_a) - r * (a + 0.5 * r)) - log_survival;
    const double step = mills * excess;
    r = r + step;
    if (r < 0.0) r = 0.0;
    if ((step < 0 ? -step : step) <= kNewtonTolerance * (1.0 + r)) break;
  }
  return r;
}

}  // namespace torch_init
