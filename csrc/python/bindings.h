// SPDX-License-Identifier: Apache-2.0
//
// What the native module's files share.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>

#include "cpu/tiers.h"
#include "region/region.h"

namespace torch_init {

extern std::atomic<const Tier*> active_tier;

Region region_of(const pybind11::handle& sizes, const pybind11::handle& strides,
                 const pybind11::handle& index_strides, const pybind11::handle& first_index);

// Raises what a CUDA launcher returned.
void check_cuda(const char* error);

void bind_gibbs(pybind11::module_& module);
void bind_gibbs_training(pybind11::module_& module);
void bind_moments(pybind11::module_& module);

}  // namespace torch_init
