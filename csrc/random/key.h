// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "random/philox.h"

namespace torch_init {

// The key of a named stream: one Philox call on a 128-bit digest of the name, keyed by the seed.
// The digest itself is computed by the caller (docs/stream.md).
TI_HOST_DEVICE uint64_t fold_key(uint64_t seed, const uint32_t digest[4]) {
  const PhiloxBlock block = philox4x32_10({{digest[0], digest[1], digest[2], digest[3]}}, seed);
  return static_cast<uint64_t>(block.word[0]) | (static_cast<uint64_t>(block.word[1]) << 32);
}

}  // namespace torch_init
