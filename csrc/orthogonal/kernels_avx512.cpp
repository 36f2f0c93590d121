// SPDX-License-Identifier: Apache-2.0
//
// Compiled with -mavx512f; nothing here may run before dispatch.cpp has asked the processor.
#define TI_VECTOR_BYTES 64
#include "orthogonal/kernels_inl.h"

namespace torch_init {

const OrthogonalKernels& avx512_orthogonal_kernels() { return kKernels; }

}  // namespace torch_init
