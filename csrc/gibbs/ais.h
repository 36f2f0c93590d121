// SPDX-License-Identifier: Apache-2.0
//
// Annealed importance sampling (Neal 2001; Salakhutdinov & Murray 2008): chains through the models
// between a base, of independent visible units, and the layer.
#pragma once

#include "gibbs/kernels.h"

namespace torch_init {

struct AisTask {
  GibbsTask gibbs;  // states and fields are room to work in; its beta and half_steps are not read
  const int32_t* betas;  // [count], in units of 2^-kBetaBits, at most 1
  int64_t count;
  int32_t from_base;    // whether to begin with a sample at betas[0], or with the states there are
  int32_t shift;        // of the weights
  double* log_weights;  // [chains]: sums of log p(v, betas[k]) / p(v, betas[k - 1]), unnormalised
};

void host_ais(const AisTask& task, const GibbsKernels& kernels, int max_threads);

}  // namespace torch_init
