// SPDX-License-Identifier: Apache-2.0
//
// Compiled with -mavx512f -mavx512vl -mavx512bw -mavx512dq and the flags of tier_avx2.cpp: nothing
// here may run before dispatch.cpp has asked the processor, and no header with shared inline
// functions may be included.
#include "cpu/kernels_inl.h"
#include "cpu/simd_avx512.h"
#include "cpu/tiers.h"

namespace torch_init {

const CpuKernels& avx512_kernels() {
  static constexpr CpuKernels kernels = {words_kernel<Avx512>, values_f32_kernel<Avx512>,
                                         values_f64_kernel<Avx512>, round_kernel<Avx512>};
  return kernels;
}

}  // namespace torch_init
