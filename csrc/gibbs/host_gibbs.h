// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "gibbs/kernels.h"

namespace torch_init {

// Calls run(first, count, scratch) for pieces of the task's chains, on at most `max_threads`
// threads, with as much scratch memory as the kernels need for so many.
void in_pieces(const GibbsTask& task, const GibbsKernels& kernels, int max_threads,
               const std::function<void(int64_t, int64_t, void*)>& run);

// All half-steps of all chains, on at most `max_threads` threads.
void host_gibbs(const GibbsTask& task, const GibbsKernels& kernels, int max_threads);

// Units with floating-point fields, on at most `max_threads` threads.
void host_sample_float(const FloatTask& task, const GibbsKernels& kernels, int max_threads);

}  // namespace torch_init
