// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stddef.h>

#include "moments/measure_kernel.h"

namespace torch_init {

// Tasks as one piece of memory that a device can read: the tasks, then the chunks they begin at.
size_t measure_blob_size(size_t count);
void write_measure_blob(const MeasureTask* tasks, size_t count, void* out);
inline MeasureList measure_list_in_blob(const void* blob, size_t count) {
  const MeasureTask* tasks = static_cast<const MeasureTask*>(blob);
  return {tasks, reinterpret_cast<const int64_t*>(tasks + count), static_cast<int64_t>(count)};
}

// Measures on the given device, which it leaves current, and stream. All pointers are to device
// memory; of_chunk has room for what each of the `chunks` chunks holds. Never synchronises. Returns
// null, or a static string that says what CUDA objected to.
const char* cuda_measure(const void* blob, size_t count, int64_t chunks, Moments* of_chunk,
                         Moments* of_task, int device, void* stream);

// The kernels' bodies run by the host, one thread after another, over a list in host memory.
void measure_body_on_host(const MeasureList& list, int blocks, Moments* of_task);

}  // namespace torch_init
