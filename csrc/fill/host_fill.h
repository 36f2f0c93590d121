// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stddef.h>

#include "fill/cpu_kernels.h"
#include "fill/task.h"

namespace torch_init {

// Fills every task's region, all of them in one parallel region of at most `max_threads` threads.
// Threads are started for the call and joined before it returns: nothing outlives a fork.
void host_fill(const FillTask* tasks, size_t count, const CpuKernels& kernels, int max_threads);

}  // namespace torch_init
