// SPDX-License-Identifier: Apache-2.0
//
// Prints what failed and exits with 1. `test_orthogonal --golden` prints the checksums, for the
// table below, after a change of bits that was meant.
#include <algorithm>
#include <cfenv>
#include <cmath>
#include <complex>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/tiers.h"
#include "matrices.h"
#include "orthogonal/householder.h"

namespace torch_init {
namespace {

int failures = 0;

void check(bool passed, const std::string& what) {
  if (passed) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}

std::vector<Tier> runnable_tiers() {
  std::vector<Tier> tiers;
  for (const char* name : {"baseline", "avx2", "avx512"}) {
    if (const Tier* tier = find_tier(name)) {
      tiers.push_back(*tier);
    } else {
      std::printf("skipped: %s is not built or not on this CPU\n", name);
    }
  }
  return tiers;
}

// Householder's Q loses a few units in the last place whatever the matrix (Higham, Accuracy and
// Stability of Numerical Algorithms, 2nd ed., theorem 19.4); LAPACK's reaches 8 epsilon here.
template <typename Scalar>
void check_orthonormal(const Matrix<Scalar>& q, const std::string& what) {
  const double bound =
      12.0 * static_cast<double>(std::numeric_limits<typename Traits<Scalar>::Real>::epsilon());
  const auto product = gram(q, q);
  bool passed = true;
  for (int64_t j = 0; j < q.cols; ++j) {
    for (int64_t k = 0; k < q.cols; ++k) {
      const double error =
          std::abs(product[static_cast<size_t>(j * q.cols + k)] - (j == k ? 1.0 : 0.0));
      passed = passed && error <= bound;  // false for NaN
    }
  }
  check(passed, what + ": Q^H Q = I");
}

// R = Q^H A is upper triangular with a positive diagonal, and Q R = A: together they fix Q. The
// entries of A are of order 1, and R's errors grow with the length of its columns.
template <typename Scalar>
void check_factorisation(Matrix<Scalar> a, const Matrix<Scalar>& q, const std::string& what) {
  const double epsilon =
      static_cast<double>(std::numeric_limits<typename Traits<Scalar>::Real>::epsilon());
  const double bound = 16.0 * epsilon * std::sqrt(static_cast<double>(a.rows));
  const int64_t n = a.cols;
  const auto r = gram(q, a);
  bool triangular = true;
  bool positive = true;
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t k = 0; k < j; ++k) {
      triangular = triangular && std::abs(r[static_cast<size_t>(j * n + k)]) <= bound;
    }
    const std::complex<double> diagonal = r[static_cast<size_t>(j * n + j)];
    positive = positive && diagonal.real() > 0.0 && std::abs(diagonal.imag()) <= bound;
  }
  check(triangular, what + ": R is upper triangular");
  check(positive, what + ": R has a positive diagonal");
  double worst = 0.0;
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t k = 0; k < n; ++k) {
      std::complex<double> sum = -a.wide(i, k);
      for (int64_t j = 0; j <= k; ++j) sum += q.wide(i, j) * r[static_cast<size_t>(j * n + k)];
      worst = std::max(worst, std::abs(sum));
    }
  }
  check(worst <= bound, what + ": Q R = A");
}

constexpr int64_t kShapes[][2] = {{1, 1},   {5, 1},   {7, 7},   {32, 32},  {33, 32},
                                  {33, 33}, {65, 64}, {300, 3}, {129, 100}};

template <typename Scalar>
void test_random_matrices(const std::vector<Tier>& tiers) {
  for (const auto& shape : kShapes) {
    const Matrix<Scalar> a = random_matrix<Scalar>(shape[0], shape[1]);
    const Matrix<Scalar> q = q_factor(a, tiers[0]);
    check_orthonormal(q, a.name());
    check_factorisation(a, q, a.name());
    for (const Tier& tier : tiers) {
      check(q.same_bits(q_factor(a, tier)), a.name() + ": " + tier.name + " has baseline's bits");
    }
  }
}

// Each shape has work for seven threads.
template <typename Scalar>
void test_threads(const std::vector<Tier>& tiers, int64_t rows, int64_t cols) {
  const Matrix<Scalar> a = random_matrix<Scalar>(rows, cols);
  const Matrix<Scalar> q = q_factor(a, tiers[0]);
  for (const Tier& tier : tiers) {
    for (const int num_threads : {1, 2, 3, 7}) {
      check(q.same_bits(q_factor(a, tier, num_threads)),
            a.name() + ": " + tier.name + " on " + std::to_string(num_threads) +
                " threads has the bits of baseline on 1");
    }
  }
}

// Powers of two commute with rounding: scaling columns by +-2^k must only flip signs of Q.
template <typename Scalar>
void test_scaled_columns(const Tier& tier) {
  Matrix<Scalar> a = random_matrix<Scalar>(129, 100);
  Matrix<Scalar> q = q_factor(a, tier);
  for (int64_t j = 0; j < a.cols; ++j) {
    const double sign = j % 3 == 0 ? -1.0 : 1.0;
    const double factor = std::ldexp(sign, static_cast<int>(j % 11) - 5);
    for (int64_t i = 0; i < a.rows; ++i) {
      const std::complex<double> x = factor * a.wide(i, j);
      const std::complex<double> y = sign * q.wide(i, j);
      a.at(i, j) = Traits<Scalar>::make(x.real(), x.imag());
      q.at(i, j) = Traits<Scalar>::make(y.real(), y.imag());
    }
  }
  check(q.same_bits(q_factor(a, tier)), a.name() + ": columns scaled by +-2^k");
}

template <typename Scalar>
void test_degenerate_matrices(const Tier& tier) {
  const auto one = Traits<Scalar>::make(1.0, 0.0);
  Matrix<Scalar> identity{40, 40};
  for (int64_t j = 0; j < 40; ++j) identity.at(j, j) = one;

  const Matrix<Scalar> zero{40, 40};
  const Matrix<Scalar> q = q_factor(zero, tier);
  bool is_identity = true;
  for (int64_t i = 0; i < 40; ++i) {
    for (int64_t j = 0; j < 40; ++j) {
      is_identity = is_identity && q.wide(i, j) == identity.wide(i, j);
    }
  }
  check(is_identity, zero.name() + ": Q of zero is the identity");

  Matrix<Scalar> holes = random_matrix<Scalar>(100, 70);
  for (int64_t i = 0; i < holes.rows; ++i) {
    for (const int64_t j : {0, 31, 32, 50, 69}) holes.at(i, j) = Scalar{};
  }
  check_orthonormal(q_factor(holes, tier), holes.name() + " with zero columns");

  Matrix<Scalar> ones{70, 40};
  for (Scalar& x : ones.entries) x = one;
  check_orthonormal(q_factor(ones, tier), ones.name() + " of ones");

  // Squares below the smallest float, subnormals, and squares whose sum is near the largest.
  for (const double scale : {1e-25, 1e-40, 1e17}) {
    Matrix<Scalar> scaled = random_matrix<Scalar>(70, 40);
    for (Scalar& x : scaled.entries) {
      const std::complex<double> y = scale * Traits<Scalar>::wide(x);
      x = Traits<Scalar>::make(y.real(), y.imag());
    }
    check_orthonormal(q_factor(scaled, tier), scaled.name() + " times " + std::to_string(scale));
  }
}

template <typename Scalar>
void test_shapes_without_entries(const Tier& tier) {
  q_factor(Matrix<Scalar>{0, 0}, tier);
  q_factor(Matrix<Scalar>{5, 0}, tier);
  const Matrix<Scalar> wide = random_matrix<Scalar>(2, 3);
  Matrix<Scalar> a = wide;
  bool refused = false;
  try {
    orthonormalize_columns(a.entries.data(), 2, 3, 1, *tier.orthogonal);
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  check(refused && a.same_bits(wide), wide.name() + ": refused and unchanged");
}

template <typename Scalar>
void test_rounding_mode(const Tier& tier) {
  const Matrix<Scalar> a = random_matrix<Scalar>(65, 64);
  const Matrix<Scalar> q = q_factor(a, tier);
  std::fesetround(FE_TOWARDZERO);
  const Matrix<Scalar> other = q_factor(a, tier);
  const bool kept = std::fegetround() == FE_TOWARDZERO;
  std::fesetround(FE_TONEAREST);
  check(kept && q.same_bits(other), a.name() + ": the caller's rounding mode has no say");
}

// FNV-1a over the bytes of Q.
template <typename Scalar>
uint64_t checksum(const Matrix<Scalar>& q) {
  uint64_t hash = 0xcbf29ce484222325u;
  const auto* bytes = reinterpret_cast<const unsigned char*>(q.entries.data());
  for (size_t i = 0; i < q.entries.size() * sizeof(Scalar); ++i) {
    hash = (hash ^ bytes[i]) * 0x100000001b3u;
  }
  return hash;
}

constexpr int64_t kGoldenShapes[][2] = {{7, 7}, {65, 64}, {1000, 3}, {150, 100}};

// Rows: float32, float64, complex64, complex128; columns: kGoldenShapes.
constexpr uint64_t kGolden[4][4] = {
    {0x42f64e052f986eccu, 0xf7aa77d5846659e9u, 0x6f096c032d75de31u, 0x856eacfb9a333133u},
    {0xdaba2adbfa8f093fu, 0x881a7fc14993476fu, 0x6e1984141efabeedu, 0xe575dad20b58be51u},
    {0x59b2b31bf2f9be4au, 0xf2f89b93e82c1f6eu, 0x966b0b064e364418u, 0x7d64de17cb68a68du},
    {0xd2d1075357281eddu, 0x2b40fc489b5493f1u, 0xb9bca53789ca65edu, 0xab51857ecce57752u},
};

template <typename Scalar>
void test_golden(const Tier& tier, const uint64_t* expected, bool print) {
  if (print) std::printf("   ");
  for (const auto& shape : kGoldenShapes) {
    const Matrix<Scalar> q = q_factor(random_matrix<Scalar>(shape[0], shape[1]), tier);
    if (print) {
      std::printf(" 0x%016llxu,", static_cast<unsigned long long>(checksum(q)));
    } else {
      check(checksum(q) == *expected++, q.name() + ": golden checksum");
    }
  }
  if (print) std::printf("\n");
}

template <typename Scalar>
void test_all(const std::vector<Tier>& tiers) {
  test_random_matrices<Scalar>(tiers);
  test_scaled_columns<Scalar>(tiers.back());
  test_degenerate_matrices<Scalar>(tiers.back());
  test_shapes_without_entries<Scalar>(tiers.back());
  test_rounding_mode<Scalar>(tiers.back());
}

}  // namespace
}  // namespace torch_init

int main(int argc, char** argv) {
  using namespace torch_init;
  const std::vector<Tier> tiers = runnable_tiers();
  const bool print = argc > 1 && std::strcmp(argv[1], "--golden") == 0;
  test_golden<float>(tiers[0], kGolden[0], print);
  test_golden<double>(tiers[0], kGolden[1], print);
  test_golden<Complex<float>>(tiers[0], kGolden[2], print);
  test_golden<Complex<double>>(tiers[0], kGolden[3], print);
  if (print) return 0;
  test_all<float>(tiers);
  test_all<double>(tiers);
  test_all<Complex<float>>(tiers);
  test_all<Complex<double>>(tiers);
  test_threads<float>(tiers, 700, 226);
  test_threads<double>(tiers, 700, 226);
  test_threads<Complex<float>>(tiers, 250, 193);
  test_threads<Complex<double>>(tiers, 250, 193);
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
