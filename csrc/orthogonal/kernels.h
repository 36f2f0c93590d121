// SPDX-License-Identifier: Apache-2.0
//
// What one instruction-set tier does for the orthogonalisation: factor one strip, and apply one
// strip's reflectors to another. Every tier returns the same bits.
//
// A strip is kStripColumns consecutive columns of a matrix, stored row after row without gaps and
// aligned to kStripAlignment bytes. A complex row holds its real parts, then its imaginary parts.
// A strip always has kStripColumns columns and a multiple of kRowMultiple rows; what the matrix
// lacks is zero.
#pragma once

#include <stdint.h>

namespace torch_init {

constexpr int kStripColumns = 32;
constexpr int kRowMultiple = 4;
constexpr int kStripAlignment = 64;

template <typename Real>
struct StripKernels {
  // Overwrites the first `columns` columns of `strip` with the reflectors v_j of its QR
  // factorisation: v_j is 0 above row j and 1 in row j. With T upper triangular, their product is
  // H_0 H_1 ... = I - V T V^H. Writes T and T^H (kStripColumns rows each), and into one strip row
  // `phases` the unit phases of R's diagonal.
  void (*factor)(Real* strip, int64_t rows, int columns, Real* t, Real* t_adjoint, Real* phases);

  // target <- (I - V S^H V^H) target. S = T applies the adjoint of the product, S = T^H the
  // product.
  void (*apply)(const Real* v, const Real* s, int64_t rows, Real* target);
};

struct OrthogonalKernels {
  StripKernels<float> float32;
  StripKernels<double> float64;
  StripKernels<float> complex64;
  StripKernels<double> complex128;
};

// csrc/cpu/dispatch.cpp knows which of these the processor can run.
const OrthogonalKernels& baseline_orthogonal_kernels();

#if defined(TORCH_INIT_HAVE_AVX2)
const OrthogonalKernels& avx2_orthogonal_kernels();
#endif

#if defined(TORCH_INIT_HAVE_AVX512)
const OrthogonalKernels& avx512_orthogonal_kernels();
#endif

}  // namespace torch_init
