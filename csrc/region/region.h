// SPDX-License-Identifier: Apache-2.0
//
// A region of one tensor, as plain data that a GPU can read too.
#pragma once

#include <stdint.h>

#include "portable/portable.h"

namespace torch_init {

constexpr int kMaxDims = 8;

// A box of elements. Element (i0, i1, ...) lies at data + sum(i * stride) and has the logical
// index first_index + sum(i * index_stride) in the whole tensor: the two need not agree, which
// is how a transposed tensor, a slice and a shard get the values of the plain tensor.
struct Region {
  int32_t ndim;
  int64_t size[kMaxDims];
  int64_t stride[kMaxDims];        // of memory, in elements
  int64_t index_stride[kMaxDims];  // of the logical index
  uint64_t first_index;
  int64_t numel;
  // The last `run_dims` dimensions have consecutive logical indices, `run_length` of them.
  int32_t run_dims;
  int64_t run_length;
  int64_t runs;
  bool runs_contiguous;  // and lie side by side in memory
};

// Where a run starts: `position` counts the region's elements in row-major order.
struct RunStart {
  int64_t offset;  // in memory, elements
  uint64_t index;  // logical
};

TI_HOST_DEVICE RunStart run_start(const Region& region, int64_t run) {
  RunStart start{0, region.first_index};
  for (int d = region.ndim - region.run_dims - 1; d >= 0; --d) {
    const int64_t i = run % region.size[d];
    run /= region.size[d];
    start.offset += i * region.stride[d];
    start.index += static_cast<uint64_t>(i * region.index_stride[d]);
  }
  return start;
}

// Memory offset of element `position` within a run.
TI_HOST_DEVICE int64_t offset_in_run(const Region& region, int64_t position) {
  if (region.runs_contiguous) return position;
  int64_t offset = 0;
  for (int d = region.ndim - 1; d >= region.ndim - region.run_dims; --d) {
    offset += (position % region.size[d]) * region.stride[d];
    position /= region.size[d];
  }
  return offset;
}

// Drops dimensions of size 1, joins neighbours that are one dimension in disguise, and finds the
// runs. Returns false if more than kMaxDims dimensions remain.
bool make_region(int ndim, const int64_t* size, const int64_t* stride, const int64_t* index_stride,
                 uint64_t first_index, Region* region);

}  // namespace torch_init
