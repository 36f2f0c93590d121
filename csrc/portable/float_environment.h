// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include <stdint.h>

namespace torch_init {

// Round to nearest, subnormals kept, for the life of the object. torch.set_flush_denormal and
// libraries linked with -ffast-math change these modes per thread; a weight must not notice.
class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment() {
#if defined(__x86_64__)
    saved_ = _mm_getcsr();
    _mm_setcsr(0x1f80);
#elif defined(__aarch64__)
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(saved_));
    __asm__ __volatile__("msr fpcr, %0" : : "r"(static_cast<uint64_t>(0)));
#endif
  }
  ~DefaultFloatEnvironment() {
#if defined(__x86_64__)
    _mm_setcsr(saved_);
#elif defined(__aarch64__)
    __asm__ __volatile__("msr fpcr, %0" : : "r"(saved_));
#endif
  }
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

#if defined(__x86_64__)

 private:
  unsigned int saved_ = 0;
#elif defined(__aarch64__)

 private:
  uint64_t saved_ = 0;
#endif
};

}  // namespace torch_init
