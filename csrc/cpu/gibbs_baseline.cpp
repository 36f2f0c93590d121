// SPDX-License-Identifier: Apache-2.0
#include "cpu/tiers.h"

#define TI_VECTOR_BYTES 16
#include "gibbs/ascend_inl.h"
#include "gibbs/float_rows_inl.h"
#include "gibbs/quantize_inl.h"
#include "gibbs/rows_inl.h"
#include "gibbs/statistics_inl.h"

namespace torch_init {
namespace {

struct OneByOne {
  static void values(const Distribution& d, uint64_t key, PhiloxBlock counter, int n, float* out) {
    for (int block = 0; block < n; ++block) {
      const PhiloxBlock words = philox4x32_10(counter, key);
      for (int k = 0; k < 4; ++k) *out++ = value_from_word(words.word[k], d);
      ++counter.word[0];
    }
  }
  static void of_blocks(const Distribution& logistic, uint64_t key, PhiloxBlock counter, int n,
                        int32_t* out) {
    for (int block = 0; block < n; ++block) {
      const PhiloxBlock words = philox4x32_10(counter, key);
      for (int k = 0; k < 4; ++k) *out++ = threshold_of(words.word[k], logistic);
      ++counter.word[0];
    }
  }
};

}  // namespace

const GibbsKernels& baseline_gibbs_kernels() {
  static constexpr GibbsKernels kernels = {kRowsMostChains,
                                           rows_scratch_size,
                                           run_rows<OneByOne>,
                                           kQuantizeKernels<float>,
                                           kQuantizeKernels<double>,
                                           kStatisticsKernels,
                                           kAscendKernels,
                                           softplus_sums,
                                           sample_float_chain<OneByOne>,
                                           sum_of_on};
  return kernels;
}

}  // namespace torch_init
