// SPDX-License-Identifier: Apache-2.0
//
// The Q factor of a QR factorisation, with the same bits on every CPU, instruction set and number
// of threads. LAPACK's Q depends on all three. docs/orthogonal.md gives the order of operations.
//
// Every file of this folder needs -ffp-contract=off, kernels_avx2.cpp also -mavx2,
// kernels_avx512.cpp also -mavx512f; further instruction-set flags do no harm.
#pragma once

#include <stdint.h>

#include "orthogonal/kernels.h"

namespace torch_init {

// Laid out as std::complex<Real> and torch's complex types are.
template <typename Real>
struct Complex {
  Real re;
  Real im;
};

// Overwrites the row-major rows x cols matrix A, rows >= cols, with the Q of A = QR whose R has a
// real, nonnegative diagonal. A of independent standard normals gives Q the Haar distribution
// (Mezzadri, "How to generate random matrices from the classical compact groups", 2007).
//
// Scalar is float, double, Complex<float> or Complex<double>. Q is orthonormal for any A whose sums
// of squares over a column stay finite in Scalar, rank-deficient and zero matrices included. Uses
// up to `num_threads` threads, which end with the call. Throws std::invalid_argument for rows <
// cols and std::bad_alloc; A is then unchanged.
template <typename Scalar>
void orthonormalize_columns(Scalar* a, int64_t rows, int64_t cols, int num_threads,
                            const OrthogonalKernels& kernels);

}  // namespace torch_init
