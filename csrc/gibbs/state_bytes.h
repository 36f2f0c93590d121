// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdint.h>

namespace torch_init {

// Writes states of binary units as bytes: 1 for 1, 0 for `off`. Returns whether nothing else was
// among them; what is written is of use only then.
bool state_bytes(const float* states, int64_t count, float off, uint8_t* out);

}  // namespace torch_init
