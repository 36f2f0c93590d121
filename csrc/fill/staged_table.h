// SPDX-License-Identifier: Apache-2.0
//
// A float table in shared memory, where the fill kernel looks it up.
#pragma once

#include "distributions/transform.h"

namespace torch_init {

constexpr int kFillThreads = 256;

// Every row eight times, side by side: 16 bytes are read by 8 threads at once, and threads whose
// numbers differ by less than 8 read from different banks, whatever their rows.
struct StagedTable {
  struct alignas(16) Row {
    float c[4];
  };
  static constexpr int kCopies = 8;
  static constexpr int kRows = 2 * Segmentation<float>::kSegments;
  Row rows[kRows * kCopies];
};

// A thread's own copy of every row.
class StagedRows {
 public:
  TI_HOST_DEVICE_MEMBER StagedRows(const StagedTable& table, int thread) {
    const StagedTable::Row* const rows = table.rows + thread % StagedTable::kCopies;
#if defined(__CUDA_ARCH__)
    origin_ = static_cast<uint32_t>(__cvta_generic_to_shared(rows)) - kFirst * kStride;
#else
    rows_ = rows;
#endif
  }

  TI_HOST_DEVICE_MEMBER void operator()(uint32_t row, float c[4]) const {
#if defined(__CUDA_ARCH__)
    // One multiply-add of the bits above the position: nvcc would shift, mask, subtract and add.
    uint32_t at;
    asm("mad.lo.u32 %0, %1, %2, %3;" : "=r"(at) : "r"(row + kFirst), "n"(kStride), "r"(origin_));
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
                 : "r"(at));
#else
    const StagedTable::Row& found = rows_[row * StagedTable::kCopies];
    for (int k = 0; k < 4; ++k) c[k] = found.c[k];
#endif
  }

 private:
  static constexpr uint32_t kStride = StagedTable::kCopies * sizeof(StagedTable::Row);
  static constexpr uint32_t kFirst = Segmentation<float>::kFirstSegment;
#if defined(__CUDA_ARCH__)
  uint32_t origin_;  // in shared memory, of the row that would be number -kFirst
#else
  const StagedTable::Row* rows_;
#endif
};

// One thread's share of the staging.
TI_HOST_DEVICE void stage_table(const QuantileRows<float>& table, int thread, StagedTable* staged) {
  const int rows = table.symmetric ? Segmentation<float>::kSegments : StagedTable::kRows;
#pragma unroll 1
  for (int at = thread; at < rows * StagedTable::kCopies; at += kFillThreads) {
    const float* const c = table.rows + at / StagedTable::kCopies * 4;
    staged->rows[at] = {{c[0], c[1], c[2], c[3]}};
  }
}

}  // namespace torch_init
