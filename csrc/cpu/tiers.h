// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "fill/cpu_kernels.h"

namespace torch_init {

// Plain C++, for any processor; the reference for the others.
const CpuKernels& baseline_kernels();

#if defined(TORCH_INIT_HAVE_AVX2)
const CpuKernels& avx2_kernels();
#endif

#if defined(TORCH_INIT_HAVE_AVX512)
const CpuKernels& avx512_kernels();
#endif

// The tier called `name` if it was built and this processor can run it, else null.
const CpuKernels* find_kernels(const char* name);

// The widest tier this processor can run.
const CpuKernels& best_kernels();

}  // namespace torch_init
