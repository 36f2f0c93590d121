// SPDX-License-Identifier: Apache-2.0
//
// A region as pieces of consecutive logical indices whose elements lie side by side, those that do
// not having been gathered.
#pragma once

#include <string.h>

#include <algorithm>

#include "region/region.h"

namespace torch_init {

constexpr int64_t kGatherBytes = 16384;

// Gathers `count` elements of a run, from `position` in it on.
template <typename Element>
void gather(const Region& region, const Element* run, int64_t position, int64_t count,
            Element* out) {
  const int last = region.ndim - 1;
  while (count > 0) {
    const int64_t row = std::min(count, region.size[last] - position % region.size[last]);
    const Element* in = run + offset_in_run(region, position);
    for (int64_t i = 0; i < row; ++i) out[i] = in[i * region.stride[last]];
    out += row;
    position += row;
    count -= row;
  }
}

// Calls read(data, index, count) for pieces of the elements [begin, end) of the region in row-major
// order; data is good until the call returns.
template <typename Read>
void read_region(const void* data, int64_t element_size, const Region& region, int64_t begin,
                 int64_t end, const Read& read) {
  alignas(64) char gathered[kGatherBytes];
  const char* const bytes = static_cast<const char*>(data);
  while (begin < end) {
    const int64_t position = begin % region.run_length;
    int64_t count = std::min(end - begin, region.run_length - position);
    const RunStart start = run_start(region, begin / region.run_length);
    const uint64_t index = start.index + static_cast<uint64_t>(position);
    if (region.runs_contiguous) {
      read(bytes + (start.offset + position) * element_size, index, count);
    } else {
      count = std::min(count, kGatherBytes / element_size);
      const char* const run = bytes + start.offset * element_size;
      const auto gather_as = [&](auto element) {
        using Element = decltype(element);
        gather(region, reinterpret_cast<const Element*>(run), position, count,
               reinterpret_cast<Element*>(gathered));
      };
      if (element_size == 8) gather_as(uint64_t{});
      if (element_size == 4) gather_as(uint32_t{});
      if (element_size == 2) gather_as(uint16_t{});
      if (element_size == 1) gather_as(uint8_t{});
      read(gathered, index, count);
    }
    begin += count;
  }
}

}  // namespace torch_init
