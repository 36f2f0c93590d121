// SPDX-License-Identifier: Apache-2.0
#include "gibbs/state_bytes.h"

#include <algorithm>

namespace torch_init {

bool state_bytes(const float* states, int64_t count, float off, uint8_t* out) {
  // So many at a time, for rows of means end it early.
  constexpr int64_t kPiece = 4096;
  for (int64_t first = 0; first < count; first += kPiece) {
    const int64_t end = std::min(first + kPiece, count);
    int32_t others = 0;
    for (int64_t i = first; i < end; ++i) {
      const int32_t on = states[i] == 1.0f;
      others |= 1 ^ (on | static_cast<int32_t>(states[i] == off));
      out[i] = static_cast<uint8_t>(on);
    }
    if (others != 0) return false;
  }
  return true;
}

}  // namespace torch_init
