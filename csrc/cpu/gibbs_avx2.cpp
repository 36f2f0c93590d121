// SPDX-License-Identifier: Apache-2.0
//
// Compiled with the flags of tier_avx2.cpp, and bound by the same rules.
#include "cpu/gibbs_philox_inl.h"
#include "cpu/kernels_inl.h"
#include "cpu/simd_avx2.h"
#include "cpu/tiers.h"

#define TI_VECTOR_BYTES 32
#include "gibbs/ascend_inl.h"
#include "gibbs/float_rows_inl.h"
#include "gibbs/quantize_inl.h"
#include "gibbs/rows_inl.h"
#include "gibbs/statistics_inl.h"

namespace torch_init {
namespace {

using Value = QuantileMap<Avx2, true, false>;

// Four blocks, and so sixteen units, at a time.
struct FourBlocks {
  static void of_blocks(const Distribution& logistic, uint64_t key, PhiloxBlock counter, int n,
                        int32_t* out) {
    const Value value(logistic);
    for_words(key, counter, n, [&](__m256i words) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                          _mm256_cvttps_epi32(_mm256_floor_ps(value(words))));
      out += Avx2::kLanes;
    });
  }
  static void values(const Distribution& d, uint64_t key, PhiloxBlock counter, int n, float* out) {
    const Value value(d);
    for_words(key, counter, n, [&](__m256i words) {
      _mm256_storeu_ps(out, value(words));
      out += Avx2::kLanes;
    });
  }

 private:
  // Calls use(words) for the words of n blocks, a multiple of four, a register at a time.
  template <typename Use>
  static void for_words(uint64_t key, const PhiloxBlock& counter, int n, const Use& use) {
    for (int block = 0; block < n; block += Avx2::kBlocks) {
      // Lanes are 64 bits wide, the counter's first word 32: what carries over is not read.
      __m256i word[4] = {Avx2::consecutive(counter.word[0] + static_cast<uint32_t>(block)),
                         Avx2::broadcast(counter.word[1]), Avx2::broadcast(counter.word[2]),
                         Avx2::broadcast(counter.word[3])};
      philox_lanes<Avx2>(key, word);
      __m256i words[2];
      Avx2::interleave(word, words);
      for (int half = 0; half < 2 && 2 * block + half * Avx2::kBlocks < 2 * n; ++half) {
        use(words[half]);
      }
    }
  }
};

}  // namespace

const GibbsKernels& avx2_gibbs_kernels() {
  static constexpr GibbsKernels kernels = {kRowsMostChains,
                                           rows_scratch_size,
                                           run_rows<FourBlocks>,
                                           kQuantizeKernels<float>,
                                           kQuantizeKernels<double>,
                                           kStatisticsKernels,
                                           kAscendKernels,
                                           softplus_sums,
                                           sample_float_chain<FourBlocks>,
                                           sum_of_on};
  return kernels;
}

}  // namespace torch_init
