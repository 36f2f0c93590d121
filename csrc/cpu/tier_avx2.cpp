// SPDX-License-Identifier: Apache-2.0
//
// Compiled with -mavx2 -mfma -mf16c: nothing here may run before dispatch.cpp has asked the
// processor, and no header with shared inline functions may be included.
#include "cpu/kernels_inl.h"
#include "cpu/simd_avx2.h"
#include "cpu/tiers.h"

namespace torch_init {

const CpuKernels& avx2_kernels() {
  static constexpr CpuKernels kernels = {words_kernel<Avx2>, values_f32_kernel<Avx2>,
                                         values_f64_kernel<Avx2>, round_kernel<Avx2>};
  return kernels;
}

}  // namespace torch_init
