// SPDX-License-Identifier: Apache-2.0
//
// What to fill, as plain data that a GPU can read too.
#pragma once

#include <stdint.h>

#include "distributions/distribution.h"
#include "region/region.h"

namespace torch_init {

struct FillTask {
  void* data;
  uint64_t key;
  DType dtype;
  Distribution distribution;
  Region region;
};

}  // namespace torch_init
