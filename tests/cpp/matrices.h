// SPDX-License-Identifier: Apache-2.0
//
// Matrices of every scalar that the engine orthonormalises, and their products in double.
#pragma once

#include <complex>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "cpu/tiers.h"
#include "orthogonal/householder.h"

namespace torch_init {
namespace {

template <typename Scalar>
struct Traits {
  using Real = Scalar;
  static constexpr const char* kName = sizeof(Real) == 4 ? "float32" : "float64";
  static Scalar make(double re, double) { return static_cast<Real>(re); }
  static std::complex<double> wide(Scalar x) { return static_cast<double>(x); }
};

template <typename R>
struct Traits<Complex<R>> {
  using Real = R;
  static constexpr const char* kName = sizeof(Real) == 4 ? "complex64" : "complex128";
  static Complex<R> make(double re, double im) { return {static_cast<R>(re), static_cast<R>(im)}; }
  static std::complex<double> wide(Complex<R> x) {
    return {static_cast<double>(x.re), static_cast<double>(x.im)};
  }
};

// Exact on any machine: sums of four uniforms, near enough to normals. SplitMix64 (Steele, Lea and
// Flood 2014) makes the uniforms.
class Source {
 public:
  double next() {
    double sum = -2.0;
    for (int i = 0; i < 4; ++i) sum += static_cast<double>(word() >> 32) * 0x1p-32;
    return sum;
  }

 private:
  uint64_t word() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  uint64_t state_ = 0;
};

template <typename Scalar>
struct Matrix {
  int64_t rows;
  int64_t cols;
  std::vector<Scalar> entries = std::vector<Scalar>(static_cast<size_t>(rows * cols));

  Scalar& at(int64_t i, int64_t j) { return entries[static_cast<size_t>(i * cols + j)]; }
  std::complex<double> wide(int64_t i, int64_t j) const {
    return Traits<Scalar>::wide(entries[static_cast<size_t>(i * cols + j)]);
  }
  bool same_bits(const Matrix& other) const {
    return entries.empty() ||
           std::memcmp(entries.data(), other.entries.data(), entries.size() * sizeof(Scalar)) == 0;
  }
  std::string name() const {
    return std::string(Traits<Scalar>::kName) + " " + std::to_string(rows) + " x " +
           std::to_string(cols);
  }
};

template <typename Scalar>
Matrix<Scalar> random_matrix(int64_t rows, int64_t cols) {
  Source source;
  Matrix<Scalar> a{rows, cols};
  for (Scalar& x : a.entries) {
    const double re = source.next();
    x = Traits<Scalar>::make(re, source.next());
  }
  return a;
}

template <typename Scalar>
Matrix<Scalar> q_factor(Matrix<Scalar> a, const Tier& tier, int num_threads = 1) {
  orthonormalize_columns(a.entries.data(), a.rows, a.cols, num_threads, *tier.orthogonal);
  return a;
}

// left^H right, in double.
template <typename Scalar>
std::vector<std::complex<double>> gram(const Matrix<Scalar>& left, const Matrix<Scalar>& right) {
  const int64_t n = left.cols;
  std::vector<std::complex<double>> product(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < left.rows; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const std::complex<double> x = std::conj(left.wide(i, j));
      for (int64_t k = 0; k < n; ++k)
        product[static_cast<size_t>(j * n + k)] += x * right.wide(i, k);
    }
  }
  return product;
}

}  // namespace
}  // namespace torch_init
