// SPDX-License-Identifier: Apache-2.0
//
// Many tasks as one piece of memory that a device can read: the tasks, the tile numbers they
// start at, then each table once. The caller owns the memory on both sides.
#pragma once

#include <stddef.h>

#include "fill/fill_kernel.h"

namespace torch_init {

size_t device_blob_size(const FillTask* tasks, size_t count);

// Writes to `out` what the blob must hold when it lies at `device_address`.
void write_device_blob(const FillTask* tasks, size_t count, uint64_t device_address, void* out);

int64_t total_tiles(const FillTask* tasks, size_t count);

inline FillList list_in_blob(const void* blob, size_t count) {
  const FillTask* tasks = static_cast<const FillTask*>(blob);
  return {tasks, reinterpret_cast<const int64_t*>(tasks + count), static_cast<int64_t>(count)};
}

}  // namespace torch_init
