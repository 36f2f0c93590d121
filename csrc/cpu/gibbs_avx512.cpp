// SPDX-License-Identifier: Apache-2.0
#include "cpu/tiers.h"

namespace torch_init {

const GibbsKernels& avx512_gibbs_kernels() { return avx2_gibbs_kernels(); }

}  // namespace torch_init
