// SPDX-License-Identifier: Apache-2.0
#include "region/region.h"

namespace torch_init {

bool make_region(int ndim, const int64_t* size, const int64_t* stride, const int64_t* index_stride,
                 uint64_t first_index, Region* region) {
  *region = Region{};
  region->first_index = first_index;
  region->numel = 1;
  int n = 0;
  for (int d = 0; d < ndim; ++d) {
    region->numel *= size[d];
    if (size[d] == 1) continue;
    const bool joins = n > 0 && region->stride[n - 1] == size[d] * stride[d] &&
                       region->index_stride[n - 1] == size[d] * index_stride[d];
    if (joins) {
      region->size[n - 1] *= size[d];
    } else {
      if (n == kMaxDims) return false;
      region->size[n++] = size[d];
    }
    region->stride[n - 1] = stride[d];
    region->index_stride[n - 1] = index_stride[d];
  }
  region->ndim = n;
  region->run_length = 1;
  region->runs_contiguous = true;
  while (region->run_dims < n) {
    const int d = n - 1 - region->run_dims;
    if (region->index_stride[d] != region->run_length) break;
    if (region->stride[d] != region->run_length) region->runs_contiguous = false;
    region->run_length *= region->size[d];
    region->run_dims += 1;
  }
  region->runs = region->numel == 0 ? 0 : region->numel / region->run_length;
  return true;
}

}  // namespace torch_init
