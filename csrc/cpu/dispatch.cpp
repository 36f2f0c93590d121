// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "cpu/tiers.h"

namespace torch_init {
namespace {

#if defined(TORCH_INIT_HAVE_AVX2)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}
#endif

#if defined(TORCH_INIT_HAVE_AVX512)
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
#endif

}  // namespace

const CpuKernels* find_kernels(const char* name) {
#if defined(TORCH_INIT_HAVE_AVX512)
  if (std::strcmp(name, "avx512") == 0) return has_avx512() ? &avx512_kernels() : nullptr;
#endif
#if defined(TORCH_INIT_HAVE_AVX2)
  if (std::strcmp(name, "avx2") == 0) return has_avx2() ? &avx2_kernels() : nullptr;
#endif
  return std::strcmp(name, "baseline") == 0 ? &baseline_kernels() : nullptr;
}

const CpuKernels& best_kernels() {
  if (const CpuKernels* kernels = find_kernels("avx512")) return *kernels;
  if (const CpuKernels* kernels = find_kernels("avx2")) return *kernels;
  return baseline_kernels();
}

}  // namespace torch_init
