// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stddef.h>

#include "distributions/distribution.h"

namespace torch_init {

// What one instruction-set tier provides to the host launcher. All tiers return the same bits.
// A block is four words of the stream: four float32 values or two float64 values. `stream` asks
// for stores that bypass the cache; `out` is then aligned to kStreamAlignment.
struct CpuKernels {
  void (*words)(uint64_t key, uint64_t first_block, size_t blocks, uint32_t* out);
  void (*values_f32)(const Distribution& distribution, uint64_t key, uint64_t first_block,
                     size_t blocks, float* out, bool stream);
  void (*values_f64)(const Distribution& distribution, uint64_t key, uint64_t first_block,
                     size_t blocks, double* out);
  // Rounds n float32 values to a narrower dtype.
  void (*round)(DType dtype, const float* in, size_t n, void* out, bool stream);
};

constexpr size_t kStreamAlignment = 64;

}  // namespace torch_init
