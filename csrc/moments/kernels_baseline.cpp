// SPDX-License-Identifier: Apache-2.0
#define TI_VECTOR_BYTES 16
#include "moments/kernels_inl.h"

namespace torch_init {

const MomentsKernels& baseline_moments_kernels() { return kKernels; }

}  // namespace torch_init
