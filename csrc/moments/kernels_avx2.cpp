// SPDX-License-Identifier: Apache-2.0
//
// Compiled with -mavx2 -mfma; nothing here may run before dispatch.cpp has asked the processor.
#define TI_VECTOR_BYTES 32
#include "moments/kernels_inl.h"

namespace torch_init {

const MomentsKernels& avx2_moments_kernels() { return kKernels; }

}  // namespace torch_init
