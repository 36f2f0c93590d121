// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdint.h>
#include <string.h>

namespace torch_init {
namespace {

// Four rows of four numbers of 32 bits become four columns, converted.
template <typename In, typename Out>
inline void transpose_4x4(const In* in, int64_t in_stride, Out* out, int64_t out_stride) {
  typedef In Four __attribute__((vector_size(16)));
  typedef Out FourOut __attribute__((vector_size(16)));
  typedef int64_t Two __attribute__((vector_size(16)));
  FourOut row[4];
  for (int r = 0; r < 4; ++r) {
    Four raw;
    memcpy(&raw, in + r * in_stride, sizeof raw);
    row[r] = __builtin_convertvector(raw, FourOut);
  }
  const auto low = [](FourOut a, FourOut b) { return FourOut{a[0], b[0], a[1], b[1]}; };
  const auto high = [](FourOut a, FourOut b) { return FourOut{a[2], b[2], a[3], b[3]}; };
  const Two pair[4] = {(Two)low(row[0], row[1]), (Two)low(row[2], row[3]),
                       (Two)high(row[0], row[1]), (Two)high(row[2], row[3])};
  const Two column[4] = {Two{pair[0][0], pair[1][0]}, Two{pair[0][1], pair[1][1]},
                         Two{pair[2][0], pair[3][0]}, Two{pair[2][1], pair[3][1]}};
  for (int c = 0; c < 4; ++c) memcpy(out + c * out_stride, &column[c], sizeof column[c]);
}

}  // namespace
}  // namespace torch_init
