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

const Tier* find_tier(const char* name) {
#if defined(TORCH_INIT_HAVE_AVX512)
  if (std::strcmp(name, "avx512") == 0) {
    static const Tier tier = {"avx512", &avx512_kernels(), &avx512_orthogonal_kernels(),
                              &avx512_moments_kernels(), &avx512_gibbs_kernels()};
    return has_avx512() ? &tier : nullptr;
  }
#endif
#if defined(TORCH_INIT_HAVE_AVX2)
  if (std::strcmp(name, "avx2") == 0) {
    static const Tier tier = {"avx2", &avx2_kernels(), &avx2_orthogonal_kernels(),
                              &avx2_moments_kernels(), &avx2_gibbs_kernels()};
    return has_avx2() ? &tier : nullptr;
  }
#endif
  static const Tier tier = {"baseline", &baseline_kernels(), &baseline_orthogonal_kernels(),
                            &baseline_moments_kernels(), &baseline_gibbs_kernels()};
  return std::strcmp(name, tier.name) == 0 ? &tier : nullptr;
}

const Tier& best_tier() {
  if (const Tier* tier = find_tier("avx512")) return *tier;
  if (const Tier* tier = find_tier("avx2")) return *tier;
  return *find_tier("baseline");
}

}  // namespace torch_init
