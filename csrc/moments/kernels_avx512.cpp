// SPDX-License-Identifier: Apache-2.0
//
// Compiled with -mavx512f and -mavx512dq among others; nothing here may run before dispatch.cpp
// has asked the processor.
#define TI_VECTOR_BYTES 64
#include "moments/kernels_inl.h"

namespace torch_init {

const MomentsKernels& avx512_moments_kernels() { return kKernels; }

}  // namespace torch_init
