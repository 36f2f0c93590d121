// SPDX-License-Identifier: Apache-2.0
//
// Blocked Householder QR in the compact WY form of Schreiber and Van Loan (1989), over strips of
// columns. A strip goes through a fixed sequence of kernels, whichever thread carries it, so the
// number of threads cannot change a bit.
#include "orthogonal/householder.h"

#include <string.h>

#include <algorithm>
#include <atomic>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "portable/float_environment.h"
#include "portable/thread_team.h"

namespace torch_init {
namespace {

// Fewer multiply-adds than this are not worth a thread of their own.
constexpr double kWorkPerThread = 1e7;

template <typename Real>
class AlignedArray {
 public:
  explicit AlignedArray(int64_t size)
      : data_(static_cast<Real*>(
            ::operator new(static_cast<size_t>(size) * sizeof(Real), kAlignment))) {}
  ~AlignedArray() { ::operator delete(data_, kAlignment); }
  AlignedArray(const AlignedArray&) = delete;
  AlignedArray& operator=(const AlignedArray&) = delete;

  Real* at(int64_t index) const { return data_ + index; }

 private:
  static constexpr std::align_val_t kAlignment{kStripAlignment};
  Real* data_;
};

// A plane is the whole of a real number, or the real or the imaginary part of a complex one.
template <typename Real, int kPlanes>
class Orthonormalization {
 public:
  Orthonormalization(Real* a, int64_t rows, int64_t cols, int num_threads,
                     const StripKernels<Real>& kernels)
      : kernels_(kernels),
        a_(a),
        rows_(rows),
        cols_(cols),
        strips_((cols + kStripColumns - 1) / kStripColumns),
        padded_rows_((rows + kRowMultiple - 1) / kRowMultiple * kRowMultiple),
        num_threads_(team_size(num_threads)),
        matrix_(strips_ * padded_rows_ * kRow),
        t_(strips_ * kSquare),
        t_adjoint_(strips_ * kSquare),
        phases_(strips_ * kRow),
        columns_of_q_(num_threads_ * padded_rows_ * kRow),
        next_(static_cast<size_t>(strips_ + 1)) {}

  void run() {
    ThreadTeam team;
    team.run(num_threads_, [&](int thread) {
      DefaultFloatEnvironment environment;
      for (int64_t step = 0; step < strips_; ++step) {
        for (int64_t s = step + take(step); s < strips_; s = step + take(step)) {
          if (step == 0) {
            load(s);
          } else {
            kernels_.apply(diagonal(step - 1, step - 1), t(step - 1), active_rows(step - 1),
                           diagonal(s, step - 1));
          }
          // The first strip of a step is the next to be factored, beside the step's other strips.
          if (s == step) factor(s);
        }
        team.barrier();
      }
      for (int64_t s = strips_ - 1 - take(strips_); s >= 0; s = strips_ - 1 - take(strips_)) {
        form_q(s, columns_of_q_.at(thread * padded_rows_ * kRow));
      }
    });
  }

 private:
  static constexpr int64_t kRow = kPlanes * kStripColumns;
  static constexpr int64_t kSquare = kStripColumns * kRow;

  int team_size(int num_threads) const {
    const double work = 2.0 * kPlanes * kPlanes * static_cast<double>(rows_) *
                        static_cast<double>(cols_) * static_cast<double>(cols_);
    const double most = std::min(static_cast<double>(strips_), work / kWorkPerThread);
    return static_cast<int>(std::max(1.0, std::min(static_cast<double>(num_threads), most)));
  }

  int64_t take(int64_t step) { return next_[static_cast<size_t>(step)].fetch_add(1); }
  int width(int64_t s) const {
    return static_cast<int>(std::min<int64_t>(kStripColumns, cols_ - s * kStripColumns));
  }
  int64_t active_rows(int64_t p) const { return padded_rows_ - p * kStripColumns; }
  Real* t(int64_t p) const { return t_.at(p * kSquare); }
  // Strip s from the first row that the reflectors of strip p touch.
  Real* diagonal(int64_t s, int64_t p) const {
    return matrix_.at((s * padded_rows_ + p * kStripColumns) * kRow);
  }

  void load(int64_t s) const {
    Real* strip = diagonal(s, 0);
    memset(strip, 0, static_cast<size_t>(padded_rows_ * kRow) * sizeof(Real));
    for (int64_t i = 0; i < rows_; ++i) {
      const Real* from = a_ + (i * cols_ + s * kStripColumns) * kPlanes;
      for (int j = 0; j < width(s); ++j) {
        for (int plane = 0; plane < kPlanes; ++plane) {
          strip[i * kRow + plane * kStripColumns + j] = from[j * kPlanes + plane];
        }
      }
    }
  }

  void factor(int64_t p) const {
    kernels_.factor(diagonal(p, p), active_rows(p), width(p), t(p), t_adjoint_.at(p * kSquare),
                    phases_.at(p * kRow));
  }

  // Columns s * kStripColumns ... of Q = H_0 H_1 ... D, where D holds the phases.
  void form_q(int64_t s, Real* strip) const {
    memset(strip, 0, static_cast<size_t>(padded_rows_ * kRow) * sizeof(Real));
    for (int j = 0; j < width(s); ++j) {
      for (int plane = 0; plane < kPlanes; ++plane) {
        strip[(s * kStripColumns + j) * kRow + plane * kStripColumns + j] =
            *phases_.at(s * kRow + plane * kStripColumns + j);
      }
    }
    for (int64_t p = s; p >= 0; --p) {
      kernels_.apply(diagonal(p, p), t_adjoint_.at(p * kSquare), active_rows(p),
                     strip + p * kStripColumns * kRow);
    }
    for (int64_t i = 0; i < rows_; ++i) {
      Real* to = a_ + (i * cols_ + s * kStripColumns) * kPlanes;
      for (int j = 0; j < width(s); ++j) {
        for (int plane = 0; plane < kPlanes; ++plane) {
          to[j * kPlanes + plane] = strip[i * kRow + plane * kStripColumns + j];
        }
      }
    }
  }

  const StripKernels<Real>& kernels_;
  Real* const a_;
  const int64_t rows_;
  const int64_t cols_;
  const int64_t strips_;
  const int64_t padded_rows_;
  const int num_threads_;
  const AlignedArray<Real> matrix_;
  const AlignedArray<Real> t_;
  const AlignedArray<Real> t_adjoint_;
  const AlignedArray<Real> phases_;
  const AlignedArray<Real> columns_of_q_;
  // How many strips each step has handed out.
  std::vector<std::atomic<int64_t>> next_;
};

template <int kPlanes, typename Real>
void orthonormalize(Real* a, int64_t rows, int64_t cols, int num_threads,
                    const StripKernels<Real>& kernels) {
  if (rows < cols || cols < 0) {
    throw std::invalid_argument("orthonormalize_columns: expected rows >= cols >= 0, got " +
                                std::to_string(rows) + " x " + std::to_string(cols));
  }
  if (cols == 0) return;
  Orthonormalization<Real, kPlanes>(a, rows, cols, num_threads, kernels).run();
}

}  // namespace

template <>
void orthonormalize_columns(float* a, int64_t rows, int64_t cols, int num_threads,
                            const OrthogonalKernels& kernels) {
  orthonormalize<1>(a, rows, cols, num_threads, kernels.float32);
}

template <>
void orthonormalize_columns(double* a, int64_t rows, int64_t cols, int num_threads,
                            const OrthogonalKernels& kernels) {
  orthonormalize<1>(a, rows, cols, num_threads, kernels.float64);
}

template <>
void orthonormalize_columns(Complex<float>* a, int64_t rows, int64_t cols, int num_threads,
                            const OrthogonalKernels& kernels) {
  orthonormalize<2>(reinterpret_cast<float*>(a), rows, cols, num_threads, kernels.complex64);
}

template <>
void orthonormalize_columns(Complex<double>* a, int64_t rows, int64_t cols, int num_threads,
                            const OrthogonalKernels& kernels) {
  orthonormalize<2>(reinterpret_cast<double*>(a), rows, cols, num_threads, kernels.complex128);
}

}  // namespace torch_init
