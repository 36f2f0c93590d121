// SPDX-License-Identifier: Apache-2.0
//
// Vectors of 16 bytes, which the compiler maps to SSE2, NEON or scalar code.
#define TI_VECTOR_BYTES 16
#include "orthogonal/kernels_inl.h"

namespace torch_init {

const OrthogonalKernels& baseline_orthogonal_kernels() { return kKernels; }

}  // namespace torch_init
