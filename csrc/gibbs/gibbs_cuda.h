// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gibbs/gibbs_kernel.h"

namespace torch_init {

// Bytes of working memory that cuda_gibbs needs.
int64_t gibbs_workspace_size(const GibbsTask& task);

// Runs the task on the given device, which it leaves current, and stream: a launch for each
// half-step and some more. Everything lies in device memory but the threshold's table. Never
// synchronises, and may be captured into a graph. Returns null, or a static string that says what
// CUDA objected to.
const char* cuda_gibbs(const GibbsTask& task, void* workspace, int device, void* stream);

// The same by the kernels' bodies run by the host, on `blocks` blocks, in host memory.
void gibbs_body_on_host(const GibbsTask& task, int blocks);

// Units with floating-point fields, in one launch; the table's rows lie on the host.
const char* cuda_sample_float(const FloatTask& task, int device, void* stream);
void sample_float_body_on_host(const FloatTask& task, int blocks);

}  // namespace torch_init
