// SPDX-License-Identifier: Apache-2.0
//
// The body of every tier. A tier's file defines TI_VECTOR_BYTES, includes this once and exports
// kKernels. Vectors run over columns, which never meet in a sum, so their width cannot change a
// bit. No fused multiply-add: where the hardware has none it would need an exact emulation, far
// slower than a product and a sum.
#include <stdint.h>
#include <string.h>

#include "orthogonal/fields_inl.h"
#include "orthogonal/kernels.h"

namespace torch_init {
namespace {

// Sums over rows are cut into blocks of this many rows, which keeps them in L1 and their error low.
constexpr int64_t kRowBlock = 128;

// In columns, of any tier.
constexpr int kWidestVector = 16;

template <typename F>
struct Strip {
  using Real = typename F::Real;
  using Scalar = typename F::Scalar;
  using Lanes = typename F::Lanes;
  static constexpr int kRow = F::kRow;
  static constexpr int kLanes = F::kLanes;
  static constexpr int64_t kSquare = static_cast<int64_t>(kStripColumns) * kRow;

  // w[p][n] += sum over rows, ascending from zero, of conj(v[i][p]) * c[i][n].
  template <int kReflectors, int kVectors>
  static inline __attribute__((always_inline)) void adjoint_tile(const Real* v, const Real* c,
                                                                 int64_t rows, Real* w) {
    Lanes sum[kReflectors][kVectors] = {};
    for (int64_t i = 0; i < rows; ++i) {
      Lanes ci[kVectors];
      for (int n = 0; n < kVectors; ++n) ci[n] = F::load(c + i * kRow + n * kLanes);
      for (int p = 0; p < kReflectors; ++p) {
        const Scalar a = F::get(v + i * kRow + p);
        for (int n = 0; n < kVectors; ++n) sum[p][n] = F::add_conj_product(sum[p][n], a, ci[n]);
      }
    }
    for (int p = 0; p < kReflectors; ++p) {
      for (int n = 0; n < kVectors; ++n) {
        Real* at = w + p * kRow + n * kLanes;
        F::store(at, F::add(F::load(at), sum[p][n]));
      }
    }
  }

  // w <- V^H C.
  static void adjoint_product(const Real* v, const Real* c, int64_t rows, Real* w) {
    constexpr int kReflectors = 4;
    constexpr int kVectors = F::kTileVectors;
    memset(w, 0, kSquare * sizeof(Real));
    for (int64_t i = 0; i < rows; i += kRowBlock) {
      const int64_t count = rows - i < kRowBlock ? rows - i : kRowBlock;
      for (int n = 0; n < kStripColumns; n += kVectors * kLanes) {
        for (int p = 0; p < kStripColumns; p += kReflectors) {
          adjoint_tile<kReflectors, kVectors>(v + i * kRow + p, c + i * kRow + n, count,
                                              w + p * kRow + n);
        }
      }
    }
  }

  // C <- C - V W, each sum over the reflectors ascending from zero.
  static void subtract_product(const Real* v, const Real* w, int64_t rows, Real* c) {
    constexpr int kVectors = F::kTileVectors;
    for (int64_t i = 0; i < rows; i += kRowMultiple) {
      for (int n = 0; n < kStripColumns; n += kVectors * kLanes) {
        Lanes sum[kRowMultiple][kVectors] = {};
        for (int p = 0; p < kStripColumns; ++p) {
          Lanes wp[kVectors];
          for (int u = 0; u < kVectors; ++u) wp[u] = F::load(w + p * kRow + n + u * kLanes);
          for (int r = 0; r < kRowMultiple; ++r) {
            const Scalar a = F::get(v + (i + r) * kRow + p);
            for (int u = 0; u < kVectors; ++u) sum[r][u] = F::add_product(sum[r][u], a, wp[u]);
          }
        }
        for (int r = 0; r < kRowMultiple; ++r) {
          for (int u = 0; u < kVectors; ++u) {
            Real* at = c + (i + r) * kRow + n + u * kLanes;
            F::store(at, F::subtract(F::load(at), sum[r][u]));
          }
        }
      }
    }
  }

  static void apply(const Real* v, const Real* s, int64_t rows, Real* target) {
    alignas(kStripAlignment) Real w[kSquare];
    alignas(kStripAlignment) Real sw[kSquare];
    adjoint_product(v, target, rows, w);
    adjoint_product(s, w, kStripColumns, sw);
    subtract_product(v, sw, rows, target);
  }

  // The squared norm of column j below row j, from eight sums over the rows equal modulo 8.
  static double squared_norm_below(const Real* strip, int64_t rows, int j) {
    double sums[8] = {};
    for (int64_t i = j + 1; i < rows; ++i) sums[i % 8] += F::squared(F::get(strip + i * kRow + j));
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) +
           ((sums[4] + sums[5]) + (sums[6] + sums[7]));
  }

  // w[n] = sum over the rows i > j of conj(strip[i][j]) * strip[i][n]; of use for n > j.
  static void column_products(const Real* strip, int64_t rows, int j, Real* w) {
    constexpr int kVectors =
        2 * F::kTileVectors <= kStripColumns / kLanes ? 2 * F::kTileVectors : F::kTileVectors;
    constexpr int kColumns = kVectors * kLanes;
    memset(w, 0, kRow * sizeof(Real));
    for (int64_t i = 0; i < rows; i += kRowBlock) {
      const int64_t begin = i > j ? i : j + 1;
      const int64_t end = rows - i < kRowBlock ? rows : i + kRowBlock;
      for (int n = j / kColumns * kColumns; n < kStripColumns; n += kColumns) {
        adjoint_tile<1, kVectors>(strip + begin * kRow + j, strip + begin * kRow + n, end - begin,
                                  w + n);
      }
    }
  }

  // v_i = scale * strip[i][j], which replaces it; strip[i][n] -= v_i * w[n] for the columns n > j.
  static void update_columns(Real* strip, int64_t rows, int j, Scalar scale, const Real* w) {
    // Not the vector's own width: x - v * 0 may change the sign of a zero.
    const int first = j / kWidestVector * kWidestVector;
    for (int64_t i = j + 1; i < rows; ++i) {
      Real* row = strip + i * kRow;
      const Scalar vi = F::multiply(F::get(row + j), scale);
      for (int n = first; n < kStripColumns; n += kLanes) {
        F::store(row + n, F::subtract_product(F::load(row + n), vi, F::load(w + n)));
      }
      F::set(row + j, vi);
    }
  }

  // Turns column j below row j into the reflector that annihilates it, applies H = I - tau v v^H to
  // the columns after it, and returns tau. Row j is left alone: nothing reads R.
  static Real reflect(Real* strip, int64_t rows, int j, Real* phase) {
    const Scalar alpha = F::get(strip + j * kRow + j);
    const Polar polar = F::polar(alpha);
    const double below = squared_norm_below(strip, rows, j);
    if (below <= kNegligible<Real>) {
      F::set(phase, F::from(polar.phase_re, polar.phase_im));
      for (int64_t i = j + 1; i < rows; ++i) F::set(strip + i * kRow + j, F::from(0.0, 0.0));
      return 0;
    }
    // R[j][j] = -phase * norm, away from alpha, so that alpha - R[j][j] does not cancel.
    F::set(phase, F::from(-polar.phase_re, -polar.phase_im));
    const double norm = __builtin_sqrt(F::squared(alpha) + below);
    const double pivot = polar.modulus + norm;
    const Scalar scale = F::from(polar.phase_re / pivot, -polar.phase_im / pivot);
    // 2 / |v|^2 for the v that the rounded scale gives: H is then unitary to rounding.
    const Real tau = static_cast<Real>(2.0 / (1.0 + F::squared(scale) * below));

    alignas(kStripAlignment) Real w[kRow];
    column_products(strip, rows, j, w);
    for (int n = 0; n < kStripColumns; ++n) {
      const Scalar head = F::get(strip + j * kRow + n);
      const Scalar product = F::add_product(head, F::conj(scale), F::get(w + n));
      F::set(w + n, n > j ? F::scale(tau, product) : F::from(0.0, 0.0));
    }
    update_columns(strip, rows, j, scale, w);
    return tau;
  }

  // T[i][j] = -tau_j * sum over l = i .. j-1, ascending from zero, of T[i][l] * (V^H V)[l][j], for
  // i < j; T[j][j] = tau_j.
  static void triangular_factor(const Real* v, int64_t rows, const Real* tau, Real* t,
                                Real* t_adjoint) {
    alignas(kStripAlignment) Real gram[kSquare];
    adjoint_product(v, v, rows, gram);
    memset(t, 0, kSquare * sizeof(Real));
    memset(t_adjoint, 0, kSquare * sizeof(Real));
    for (int j = 0; j < kStripColumns; ++j) {
      for (int i = 0; i <= j; ++i) {
        Scalar sum = F::from(i == j ? -1.0 : 0.0, 0.0);
        for (int l = i; l < j; ++l) {
          sum = F::add_product(sum, F::get(t + i * kRow + l), F::get(gram + l * kRow + j));
        }
        const Scalar entry = F::scale(-tau[j], sum);
        F::set(t + i * kRow + j, entry);
        F::set(t_adjoint + j * kRow + i, F::conj(entry));
      }
    }
  }

  static void factor(Real* strip, int64_t rows, int columns, Real* t, Real* t_adjoint,
                     Real* phases) {
    Real tau[kStripColumns] = {};
    for (int j = 0; j < columns; ++j) tau[j] = reflect(strip, rows, j, phases + j);
    for (int j = 0; j < columns; ++j) {
      for (int i = 0; i < j; ++i) F::set(strip + i * kRow + j, F::from(0.0, 0.0));
      F::set(strip + j * kRow + j, F::from(1.0, 0.0));
    }
    triangular_factor(strip, rows, tau, t, t_adjoint);
  }
};

constexpr OrthogonalKernels kKernels = {
    {Strip<RealField<float>>::factor, Strip<RealField<float>>::apply},
    {Strip<RealField<double>>::factor, Strip<RealField<double>>::apply},
    {Strip<ComplexField<float>>::factor, Strip<ComplexField<float>>::apply},
    {Strip<ComplexField<double>>::factor, Strip<ComplexField<double>>::apply},
};

}  // namespace
}  // namespace torch_init
