// SPDX-License-Identifier: Apache-2.0
//
// A float table in shared memory, where the fill kernel looks it up.
#pragma once

#include "distributions/transform.h"

namespace torch_init {

constexpr int kFillThreads = 256;

// Every row eight times, side by side: 16 bytes are read by 8 threads at once, and threads whose
// numbers differ by less than 8 read from different banks, whatever their rows. The halves' rows
// take turns, the upper half's first; those of a symmetric table's lower half are the negatives.
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
    origin_ = static_cast<uint32_t>(__cvta_generic_to_shared(rows)) - 2 * kFirst * kStride;
    // A second immediate would cost an instruction for each element. nvcc does not know that y is
    // 0.
    one_ |= threadIdx.y;
#else
    rows_ = rows;
#endif
  }

  // The row with this number in the table that was staged.
  TI_HOST_DEVICE_MEMBER void operator()(uint32_t row, float c[4]) const {
    const uint32_t half = row < kSegments ? 0 : 1;
    fetch(row - half * kSegments, half << 31, c);
  }

  // table_quantile, of any table: a negative polynomial has the negative's bits, except where it
  // is 0.
  TI_HOST_DEVICE_MEMBER float quantile(uint32_t word) const {
    const SegmentPosition at = segment_position(word, one_);
    float c[4];
    fetch(at.segment, word, c);
    return cubic(c, at.t);
  }

 private:
  static constexpr uint32_t kStride = StagedTable::kCopies * sizeof(StagedTable::Row);
  static constexpr uint32_t kFirst = Segmentation<float>::kFirstSegment;
  static constexpr uint32_t kSegments = Segmentation<float>::kSegments;

  // The half is the top bit of `word`.
  TI_HOST_DEVICE_MEMBER void fetch(uint32_t segment, uint32_t word, float c[4]) const {
#if defined(__CUDA_ARCH__)
    // Two shifts and a multiply-add: nvcc would shift, mask, subtract and add.
    const uint32_t row = __funnelshift_l(word, segment + kFirst, 1);
    uint32_t at;
    asm("mad.lo.u32 %0, %1, %2, %3;" : "=r"(at) : "r"(row), "n"(kStride), "r"(origin_));
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3])
                 : "r"(at));
#else
    const StagedTable::Row& found = rows_[(2 * segment + (word >> 31)) * StagedTable::kCopies];
    for (int k = 0; k < 4; ++k) c[k] = found.c[k];
#endif
  }

  uint32_t one_ = 0x3f800000u;
#if defined(__CUDA_ARCH__)
  uint32_t origin_;  // in shared memory, of the row that would be number -2 kFirst
#else
  const StagedTable::Row* rows_;
#endif
};

// One thread's share of the staging.
TI_HOST_DEVICE void stage_table(const QuantileRows<float>& table, int thread, StagedTable* staged) {
#pragma unroll 1
  for (int at = thread; at < StagedTable::kRows * StagedTable::kCopies; at += kFillThreads) {
    const int row = at / StagedTable::kCopies;
    const int half = row % 2;
    float c[4];
    RowsInMemory{table.rows}(
        static_cast<uint32_t>(row / 2 +
                              (table.symmetric ? 0 : half * Segmentation<float>::kSegments)),
        c);
    const float sign = table.symmetric && half != 0 ? -1.0f : 1.0f;
    staged->rows[at] = {{sign * c[0], sign * c[1], sign * c[2], sign * c[3]}};
  }
}

}  // namespace torch_init
