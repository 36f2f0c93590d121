// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <string>

namespace torch_init {

inline int failures = 0;

inline void check(bool passed, const std::string& what) {
  if (passed) return;
  ++failures;
  if (failures <= 20) std::printf("FAILED: %s\n", what.c_str());
}

// What main returns.
inline int verdict() {
  std::printf("%d failed checks\n", failures);
  return failures == 0 ? 0 : 1;
}

}  // namespace torch_init
