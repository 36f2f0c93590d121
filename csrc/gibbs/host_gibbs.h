// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gibbs/kernels.h"

namespace torch_init {

// All half-steps of all chains, on at most `max_threads` threads.
void host_gibbs(const GibbsTask& task, const GibbsKernels& kernels, int max_threads);

}  // namespace torch_init
