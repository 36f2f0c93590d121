// SPDX-License-Identifier: Apache-2.0
//
// What an update of a machine needs of a GPU besides its chains (gibbs_cuda.h). Everything lies in
// device memory, nothing synchronises, all of it may be captured into a graph. A function returns
// null, or a static string that says what CUDA objected to. Its namesake runs the kernels' bodies
// on the host, in host memory.
#pragma once

#include "gibbs/ascend_kernel.h"
#include "gibbs/quantize_kernel.h"
#include "gibbs/scale_kernel.h"
#include "gibbs/statistics_kernel.h"

namespace torch_init {

// A layer in fixed point, in two launches.
template <typename Real>
const char* cuda_quantize(const QuantizeTask<Real>& task, int device, void* stream);
template <typename Real>
void quantize_body_on_host(const QuantizeTask<Real>& task);

// The terms' v^T h, v and h, in one launch.
const char* cuda_statistics(const ProductTasks& tasks, int device, void* stream);
void statistics_body_on_host(const ProductTasks& tasks);

// The phases' means and their differences, and a step of the parameters, in one launch each.
const char* cuda_differences(const DifferencesTask& task, int device, void* stream);
void differences_body_on_host(const DifferencesTask& task);
const char* cuda_ascend(const ParametersTask& task, int device, void* stream);
void ascend_body_on_host(const ParametersTask& task);

}  // namespace torch_init
