// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "fill/cpu_kernels.h"
#include "gibbs/kernels.h"
#include "moments/kernels.h"
#include "orthogonal/kernels.h"

namespace torch_init {

// Plain C++, for any processor; the reference for the others.
const CpuKernels& baseline_kernels();
const GibbsKernels& baseline_gibbs_kernels();

#if defined(TORCH_INIT_HAVE_AVX2)
const CpuKernels& avx2_kernels();
const GibbsKernels& avx2_gibbs_kernels();
#endif

#if defined(TORCH_INIT_HAVE_AVX512)
const CpuKernels& avx512_kernels();
const GibbsKernels& avx512_gibbs_kernels();
#endif

// What one instruction set is used for. Every tier returns the same bits.
struct Tier {
  const char* name;
  const CpuKernels* fill;
  const OrthogonalKernels* orthogonal;
  const MomentsKernels* moments;
  const GibbsKernels* gibbs;
};

// The tier called `name` if it was built and this processor can run it, else null.
const Tier* find_tier(const char* name);

// The widest tier this processor can run.
const Tier& best_tier();

}  // namespace torch_init
