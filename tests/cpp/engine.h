// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the engine go through: implementations, distributions, rare words.
#pragma once

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "cpu/tiers.h"
#include "distributions/lower.h"

namespace torch_init {

#if defined(TORCH_INIT_EMULATED_AVX512)
// csrc/cpu/tier_avx512.cpp compiled for any processor (simde/immintrin.h).
const CpuKernels& emulated_avx512_kernels();
#endif

struct Implementation {
  std::string name;
  const CpuKernels* kernels;
};

// All but the baseline, which they are compared with. Says which are missing.
inline std::vector<Implementation> vector_implementations() {
  std::vector<Implementation> found;
  for (const char* name : {"avx2", "avx512"}) {
    if (const Tier* tier = find_tier(name)) {
      found.push_back({name, tier->fill});
    } else {
      std::printf("skipped: %s is not built or not on this processor\n", name);
    }
  }
#if defined(TORCH_INIT_EMULATED_AVX512)
  found.push_back({"emulated avx512", &emulated_avx512_kernels()});
#else
  std::printf("skipped: emulated avx512, SIMDe (Debian: libsimde-dev) was not found\n");
#endif
  return found;
}

struct NamedDistribution {
  std::string name;
  LoweredDistribution lowered;
};

// Each map of the kernels, each shape of table.
inline std::vector<NamedDistribution> distributions(DType dtype) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const auto truncated = [&](double lower, double upper) {
    return lower_truncated_normal(0.0, 1.0, lower, upper, lower, upper, dtype);
  };
  std::vector<NamedDistribution> all;
  all.push_back({"uniform", lower_uniform(-0.3, 0.7, dtype)});
  all.push_back({"two-point", lower_two_point(0.3, -1.0, 1.0)});
  all.push_back({"two-point, nearly always high", lower_two_point(0.999999, -1.0, 1.0)});
  all.push_back({"normal", truncated(-infinity, infinity)});
  all.push_back({"logistic", lower_logistic(-3.0, 0.25, dtype)});
  all.push_back({"normal on [-2, 2]", truncated(-2.0, 2.0)});
  all.push_back(
      {"normal on [-2, 2] around 1", lower_truncated_normal(1.0, 0.5, -2.0, 2.0, 0.0, 2.0, dtype)});
  all.push_back({"normal on [-1, 3]", truncated(-1.0, 3.0)});
  all.push_back({"normal on [2, 3]", truncated(2.0, 3.0)});
  all.push_back({"normal on [-inf, -5]", truncated(-infinity, -5.0)});
  all.push_back({"normal on [-4e-5, 4e-5]", truncated(-4e-5, 4e-5)});
  return all;
}

struct RareWord {
  uint64_t index;
  uint32_t word;
};

// Words of stream kRareKey, that of seed 0 and name "", which reach every row of a table.
constexpr uint64_t kRareKey = 15261889205028699354u;

inline std::vector<RareWord> rare_words() {
  std::ifstream file(TORCH_INIT_TEST_DATA "/rare_words.txt");
  std::vector<RareWord> words;
  for (std::string line; std::getline(file, line);) {
    if (line[0] == '#') continue;
    std::istringstream fields(line);
    RareWord rare{};
    fields >> rare.index >> std::hex >> rare.word;
    words.push_back(rare);
  }
  return words;
}

}  // namespace torch_init
