// SPDX-License-Identifier: Apache-2.0
//
// Compiled with -mavx2; nothing here may run before dispatch.cpp has asked the processor.
#define TI_VECTOR_BYTES 32
#include "orthogonal/kernels_inl.h"

namespace torch_init {

const OrthogonalKernels& avx2_orthogonal_kernels() { return kKernels; }

}  // namespace torch_init
