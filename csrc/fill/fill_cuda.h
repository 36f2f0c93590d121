// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stddef.h>

#include "fill/fill_kernel.h"

namespace torch_init {

// All launchers return null, or a static string that says what CUDA objected to. They use the
// given device, which they leave current, and stream, never synchronise, and may be captured into
// a graph.

// One task whose table, if it has one, is a float table on the host: everything travels in the
// kernel's arguments.
const char* cuda_fill_one(const FillTask& task, int device, void* stream);

// Many tasks whose descriptors and tables lie in device memory (write_device_blob, cuda_upload).
const char* cuda_fill_many(const void* blob, size_t count, int64_t tiles, int device, void* stream);

// Copies `size` bytes, a multiple of 8, to device memory within kernel arguments: the host's memory
// is free when the call returns, also if a graph will replay the copy.
const char* cuda_upload(const void* host, size_t size, void* out, int device, void* stream);

int cuda_device_count();

// The kernel body run by the host, one thread after another, over a list in host memory.
void cuda_body_on_host(const FillList& list, int blocks);

}  // namespace torch_init
