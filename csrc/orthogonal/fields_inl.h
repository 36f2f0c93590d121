// SPDX-License-Identifier: Apache-2.0
//
// Real and complex numbers, and vectors of them, as kernels_inl.h computes with them. Every product
// and every sum is rounded, in the order written. A complex row holds its real parts, then its
// imaginary parts, so that both fields do the same loads.
#pragma once

#include <stdint.h>
#include <string.h>

#include "orthogonal/kernels.h"

namespace torch_init {
namespace {

// Squared norms up to these count as zero, so that no reciprocal overflows: (2^-125)^2 where the
// sums, in double, cannot underflow; where they can, 2^-1000.
template <typename Real>
constexpr double kNegligible = sizeof(Real) == sizeof(float) ? 0x1p-250 : 0x1p-1000;

// A number's absolute value and z / |z|, the phase of zero being 1.
struct Polar {
  double modulus;
  double phase_re;
  double phase_im;
};

template <typename R>
struct RealField {
  using Real = R;
  typedef R Vector __attribute__((vector_size(TI_VECTOR_BYTES)));
  struct Lanes {
    Vector re;
  };
  struct Scalar {
    R re;
  };
  static constexpr int kLanes = TI_VECTOR_BYTES / sizeof(R);
  static constexpr int kRow = kStripColumns;
  static constexpr int kTileVectors = 2;

  static Scalar get(const R* at) { return {at[0]}; }
  static void set(R* at, Scalar x) { at[0] = x.re; }
  static Scalar from(double re, double) { return {static_cast<R>(re)}; }
  static Scalar conj(Scalar x) { return x; }
  static Scalar scale(R s, Scalar x) { return {s * x.re}; }
  static Scalar multiply(Scalar a, Scalar b) { return {a.re * b.re}; }
  static Scalar add_product(Scalar sum, Scalar a, Scalar b) { return {sum.re + a.re * b.re}; }
  static double squared(Scalar x) {
    const double re = static_cast<double>(x.re);
    return re * re;
  }
  static Polar polar(Scalar x) {
    const double re = static_cast<double>(x.re);
    return re < 0.0 ? Polar{-re, -1.0, 0.0} : Polar{re, 1.0, 0.0};
  }

  static Lanes load(const R* at) {
    Lanes x;
    memcpy(&x.re, __builtin_assume_aligned(at, TI_VECTOR_BYTES), sizeof x.re);
    return x;
  }
  static void store(R* at, Lanes x) {
    memcpy(__builtin_assume_aligned(at, TI_VECTOR_BYTES), &x.re, sizeof x.re);
  }
  static Lanes add(Lanes a, Lanes b) { return {a.re + b.re}; }
  static Lanes subtract(Lanes a, Lanes b) { return {a.re - b.re}; }
  static Lanes add_product(Lanes sum, Scalar a, Lanes b) { return {sum.re + b.re * a.re}; }
  static Lanes add_conj_product(Lanes sum, Scalar a, Lanes b) { return add_product(sum, a, b); }
  static Lanes subtract_product(Lanes sum, Scalar a, Lanes b) { return {sum.re - b.re * a.re}; }
};

template <typename R>
struct ComplexField {
  using Real = R;
  typedef R Vector __attribute__((vector_size(TI_VECTOR_BYTES)));
  struct Lanes {
    Vector re;
    Vector im;
  };
  struct Scalar {
    R re;
    R im;
  };
  static constexpr int kLanes = TI_VECTOR_BYTES / sizeof(R);
  static constexpr int kRow = 2 * kStripColumns;
  static constexpr int kTileVectors = 1;

  static Scalar get(const R* at) { return {at[0], at[kStripColumns]}; }
  static void set(R* at, Scalar x) {
    at[0] = x.re;
    at[kStripColumns] = x.im;
  }
  static Scalar from(double re, double im) { return {static_cast<R>(re), static_cast<R>(im)}; }
  static Scalar conj(Scalar x) { return {x.re, -x.im}; }
  static Scalar scale(R s, Scalar x) { return {s * x.re, s * x.im}; }
  static Scalar multiply(Scalar a, Scalar b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
  }
  static Scalar add_product(Scalar sum, Scalar a, Scalar b) {
    return {(sum.re + a.re * b.re) - a.im * b.im, (sum.im + a.re * b.im) + a.im * b.re};
  }
  static double squared(Scalar x) {
    const double re = static_cast<double>(x.re);
    const double im = static_cast<double>(x.im);
    return re * re + im * im;
  }
  static Polar polar(Scalar x) {
    const double square = squared(x);
    if (square <= kNegligible<R>) return {0.0, 1.0, 0.0};
    const double modulus = __builtin_sqrt(square);
    return {modulus, static_cast<double>(x.re) / modulus, static_cast<double>(x.im) / modulus};
  }

  static Lanes load(const R* at) {
    Lanes x;
    memcpy(&x.re, __builtin_assume_aligned(at, TI_VECTOR_BYTES), sizeof x.re);
    memcpy(&x.im, __builtin_assume_aligned(at + kStripColumns, TI_VECTOR_BYTES), sizeof x.im);
    return x;
  }
  static void store(R* at, Lanes x) {
    memcpy(__builtin_assume_aligned(at, TI_VECTOR_BYTES), &x.re, sizeof x.re);
    memcpy(__builtin_assume_aligned(at + kStripColumns, TI_VECTOR_BYTES), &x.im, sizeof x.im);
  }
  static Lanes add(Lanes a, Lanes b) { return {a.re + b.re, a.im + b.im}; }
  static Lanes subtract(Lanes a, Lanes b) { return {a.re - b.re, a.im - b.im}; }
  static Lanes add_product(Lanes sum, Scalar a, Lanes b) {
    return {(sum.re + b.re * a.re) - b.im * a.im, (sum.im + b.im * a.re) + b.re * a.im};
  }
  static Lanes add_conj_product(Lanes sum, Scalar a, Lanes b) {
    return {(sum.re + b.re * a.re) + b.im * a.im, (sum.im + b.im * a.re) - b.re * a.im};
  }
  static Lanes subtract_product(Lanes sum, Scalar a, Lanes b) {
    return {(sum.re - b.re * a.re) + b.im * a.im, (sum.im - b.im * a.re) - b.re * a.im};
  }
};

}  // namespace
}  // namespace torch_init
