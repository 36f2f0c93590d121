// SPDX-License-Identifier: Apache-2.0
//
// From a word to a value: the emulated fma, and the tables at the extreme words, of which a stream
// holds too few 64-bit ones to be found.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>

#include "check.h"
#include "distributions/quantile_table.h"
#include "distributions/transform.h"
#include "random/philox.h"

namespace torch_init {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The exact quantiles, minus the table's centre, of the outermost and the innermost word of the
// upper half, then of the lower half. Computed by bisection with 50-digit arithmetic (mpmath).
struct Extremes {
  const char* name;
  double lower;
  double upper;
  double spread;  // standard deviations over which the distribution reaches, at most 1
  double exact_f32[4];
  double exact_f64[4];
};

constexpr Extremes kTruncatedNormals[] = {
    {"normal",
     -kInfinity,
     kInfinity,
     1.0,
     {6.3379577545537895, 2.918099372916623e-10, -6.3379577545537895, -2.918099372916623e-10},
     {9.155293772686072, 6.794229552421306e-20, -9.155293772686072, -6.794229552421306e-20}},
    {"normal on [-2, 2]",
     -2.0,
     2.0,
     1.0,
     {1.9999999979419076, 2.785325081373118e-10, -1.9999999979419076, -2.785325081373118e-10},
     {2.0, 6.485090314813699e-20, -2.0, -6.485090314813699e-20}},
    {"normal on [-1, 3]",
     -1.0,
     3.0,
     1.0,
     {2.9999999779351056, 0.19844789985344052, -0.9999999995958674, 0.19844789935345403},
     {3.0, 0.19844789960344728, -1.0, 0.19844789960344728}},
    {"normal on [2, 3]",
     2.0,
     3.0,
     0.5,
     {0.9999999994378609, 0.25553082049991466, 4.614318430608515e-11, 0.2555308203409621},
     {1.0, 0.2555308204204384, 1.07435473017292e-20, 0.2555308204204384}},
    {"normal on [-inf, -5]",
     -kInfinity,
     -5.0,
     0.2,
     {-2.244581756253437e-11, -0.13201833200048635, -3.352662289482429, -0.13201833208811056},
     {-5.2260741501289494e-21, -0.13201833204429847, -5.660717391156585, -0.13201833204429847}},
    {"normal on [30, inf]",
     30.0,
     kInfinity,
     1.0 / 30.0,
     {0.7522079190704002, 0.023070467835057236, 3.876213342234629e-12, 0.02307046781956427},
     {1.464488079851287, 0.023070467827310752, 9.025012473597315e-22, 0.023070467827310752}},
};

constexpr double kLogisticF32[4] = {22.87385695836178, 4.656612873077393e-10, -22.87385695836178,
                                    -4.656612873077393e-10};
constexpr double kLogisticF64[4] = {45.054566736396445, 1.0842021724855044e-19, -45.054566736396445,
                                    -1.0842021724855044e-19};

constexpr uint32_t kWords[4] = {0u, 0x7fffffffu, 0x80000000u, 0xffffffffu};
constexpr uint64_t kLongWords[4] = {0u, 0x7fffffffffffffffu, 0x8000000000000000u,
                                    0xffffffffffffffffu};

void check_near(double value, double exact, double limit, const std::string& what) {
  if (std::fabs(value - exact) <= limit) return;
  char text[200];
  std::snprintf(text, sizeof text, "%s: %.17g, exact %.17g", what.c_str(), value, exact);
  check(false, text);
}

// The limits are those of tests/distributions/test_tables.py.
void check_extremes(const std::string& name, double spread, const QuantileTable<float>& narrow,
                    const double exact_f32[4], const QuantileTable<double>& wide,
                    const double exact_f64[4]) {
  for (int i = 0; i < 4; ++i) {
    const RowsInMemory rows{narrow.coefficients.data()};
    check_near(table_quantile(kWords[i], narrow.symmetric, rows), exact_f32[i], 7e-6 * spread,
               name + ", float32, word " + std::to_string(i));
    check_near(table_quantile(kLongWords[i], wide.rows()), exact_f64[i], 2e-12 * spread,
               name + ", float64, word " + std::to_string(i));
  }
}

void test_extreme_words() {
  for (const Extremes& e : kTruncatedNormals) {
    check_extremes(e.name, e.spread, *truncated_normal_table<float>(e.lower, e.upper), e.exact_f32,
                   *truncated_normal_table<double>(e.lower, e.upper), e.exact_f64);
  }
  check_extremes("logistic", 1.0, *logistic_table<float>(), kLogisticF32, *logistic_table<double>(),
                 kLogisticF64);
}

void check_fma(float a, float b, float c) {
  const float expected = __builtin_fmaf(a, b, c);
  if (float_bits(fma_emulated(a, b, c)) == float_bits(expected)) return;
  char text[100];
  std::snprintf(text, sizeof text, "fma_emulated(%a, %a, %a) != %a", static_cast<double>(a),
                static_cast<double>(b), static_cast<double>(c), static_cast<double>(expected));
  check(false, text);
}

// Any finite float: exponents from subnormal to the largest are equally likely.
float any_float(uint32_t word) {
  const float x = bits_float(word);
  return x - x == 0.0f ? x : bits_float(word & 0xbfffffffu);
}

// The C library's fma is the oracle: correctly rounded, by instruction or in software.
void test_emulated_fma() {
  for (uint64_t i = 0; i < 200000; ++i) {
    const PhiloxBlock w = stream_block(1, i);
    const float a = any_float(w.word[0]);
    const float b = any_float(w.word[1]);
    check_fma(a, b, any_float(w.word[2]));
    // Near cancellation, and near a tie of the sum.
    check_fma(a, b, -(a * b));
    check_fma(a, b, bits_float((float_bits(a * b) & 0xff800000u) + (w.word[3] & 0xffu)));
    // What a table's polynomial sees.
    const float t = 1.0f + static_cast<float>(w.word[0] & 0x1fffffu) * 0x1p-23f;
    const float c = static_cast<float>(static_cast<int32_t>(w.word[1])) * 0x1p-30f;
    check_fma(c, t, static_cast<float>(static_cast<int32_t>(w.word[2])) * 0x1p-28f);
  }
}

}  // namespace
}  // namespace torch_init

int main() {
  torch_init::test_extreme_words();
  torch_init::test_emulated_fma();
  return torch_init::verdict();
}
