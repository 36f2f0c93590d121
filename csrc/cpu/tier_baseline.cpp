// SPDX-License-Identifier: Apache-2.0
#include "cpu/tiers.h"
#include "distributions/rounding.h"
#include "distributions/transform.h"
#include "random/philox.h"

namespace torch_init {
namespace {

void words(uint64_t key, uint64_t first_block, size_t blocks, uint32_t* out) {
  for (size_t b = 0; b < blocks; ++b) {
    const PhiloxBlock block = stream_block(key, first_block + b);
    for (int i = 0; i < 4; ++i) *out++ = block.word[i];
  }
}

void values_f32(const Distribution& distribution, uint64_t key, uint64_t first_block, size_t blocks,
                float* out, bool /*stream*/) {
  for (size_t b = 0; b < blocks; ++b) {
    const PhiloxBlock block = stream_block(key, first_block + b);
    for (int i = 0; i < 4; ++i) *out++ = value_from_word(block.word[i], distribution);
  }
}

void values_f64(const Distribution& distribution, uint64_t key, uint64_t first_block, size_t blocks,
                double* out) {
  for (size_t b = 0; b < blocks; ++b) {
    const PhiloxBlock block = stream_block(key, first_block + b);
    *out++ = value_from_words(block.word[0], block.word[1], distribution);
    *out++ = value_from_words(block.word[2], block.word[3], distribution);
  }
}

void round(DType dtype, const float* in, size_t n, void* out, bool /*stream*/) {
  for (size_t i = 0; i < n; ++i) store_rounded(dtype, out, static_cast<int64_t>(i), in[i]);
}

}  // namespace

const CpuKernels& baseline_kernels() {
  static constexpr CpuKernels kernels = {words, values_f32, values_f64, round};
  return kernels;
}

}  // namespace torch_init
