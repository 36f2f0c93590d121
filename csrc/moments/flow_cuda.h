// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stddef.h>

#include "moments/flow_kernel.h"

namespace torch_init {

// Bytes of scratch memory, aligned for doubles, that accumulating takes.
size_t flow_scratch_size(const FlowTask& task);
FlowScratch flow_scratch_at(const FlowTask& task, void* memory);

// Adds a tensor's statistics on the given device, which it leaves current, and stream. Everything
// travels in the kernels' arguments: a graph may capture it. Never synchronises. Returns null, or a
// static string that says what CUDA objected to.
const char* cuda_accumulate(const FlowTask& task, void* scratch, int device, void* stream);

// The kernels' bodies run by the host, one thread after another.
void accumulate_body_on_host(const FlowTask& task, int blocks);

}  // namespace torch_init
