// SPDX-License-Identifier: Apache-2.0
//
// Compiled with the flags of tier_avx512.cpp, and bound by the same rules.
#include "cpu/gibbs_lookup_avx512.h"
#include "cpu/tiers.h"

#define TI_VECTOR_BYTES 64
#include "gibbs/ascend_inl.h"
#include "gibbs/float_rows_inl.h"
#include "gibbs/quantize_inl.h"
#include "gibbs/rows_inl.h"
#include "gibbs/statistics_inl.h"

namespace torch_init {
namespace {

// Below this, most lanes would be idle.
constexpr int64_t kFewestChains = 9;

struct EightBlocks {
  static void of_blocks(const Distribution& logistic, uint64_t key, PhiloxBlock counter, int n,
                        int32_t* out) {
    const Value value(logistic);
    for_words(key, counter, n, [&](__m512i words) {
      _mm512_storeu_si512(out, thresholds(value, words));
      out += Avx512::kLanes;
    });
  }
  static void values(const Distribution& d, uint64_t key, PhiloxBlock counter, int n, float* out) {
    const Value value(d);
    for_words(key, counter, n, [&](__m512i words) {
      _mm512_storeu_ps(out, value(words));
      out += Avx512::kLanes;
    });
  }

 private:
  // Calls use(words) for the words of n blocks, a multiple of four, a register at a time.
  template <typename Use>
  static void for_words(uint64_t key, const PhiloxBlock& counter, int n, const Use& use) {
    for (int block = 0; block < n; block += Avx512::kBlocks) {
      // Lanes are 64 bits wide, the counter's first word 32: what carries over is not read.
      __m512i word[4] = {Avx512::consecutive(counter.word[0] + static_cast<uint32_t>(block)),
                         Avx512::broadcast(counter.word[1]), Avx512::broadcast(counter.word[2]),
                         Avx512::broadcast(counter.word[3])};
      philox_lanes<Avx512>(key, word);
      __m512i words[2];
      Avx512::interleave(word, words);
      for (int half = 0; half < 2 && 2 * block + half * Avx512::kBlocks < 2 * n; ++half) {
        use(words[half]);
      }
    }
  }
};

int64_t scratch_size(const GibbsTask& task, int64_t count) {
  const int64_t vectors = (count + kLanes - 1) / kLanes;
  const int64_t visible = quads(task.side[kVisible].units);
  const int64_t hidden = quads(task.side[kHidden].units);
  // One more: the last vector of states is read from each of its first four bytes on.
  const int64_t packed = (visible + hidden) * vectors * kLanes + visible + 1;
  const int64_t rows = rows_scratch_size(task, count);
  return packed * 4 > rows ? packed * 4 : rows;
}

template <int kVectors>
void run_lookup(const GibbsTask& task, int64_t first, int64_t count, void* scratch) {
  LookupSampler<kVectors>(task, first, count, static_cast<uint32_t*>(scratch)).run();
}

void run(const GibbsTask& task, int64_t first, int64_t count, void* scratch) {
  if (task.grey != 0 || task.fine != nullptr || count < kFewestChains) {
    return run_rows<EightBlocks>(task, first, count, scratch);
  }
  static constexpr void (*kRun[kMostVectors])(const GibbsTask&, int64_t, int64_t, void*) = {
      run_lookup<1>, run_lookup<2>, run_lookup<3>, run_lookup<4>,
      run_lookup<5>, run_lookup<6>, run_lookup<7>, run_lookup<8>};
  kRun[(count - 1) / kLanes](task, first, count, scratch);
}

}  // namespace

const GibbsKernels& avx512_gibbs_kernels() {
  static constexpr GibbsKernels kernels = {kMostVectors * kLanes,
                                           scratch_size,
                                           run,
                                           kQuantizeKernels<float>,
                                           kQuantizeKernels<double>,
                                           kStatisticsKernels,
                                           kAscendKernels,
                                           softplus_sums,
                                           sample_float_chain<EightBlocks>,
                                           sum_of_on};
  return kernels;
}

}  // namespace torch_init
