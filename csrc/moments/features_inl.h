// SPDX-License-Identifier: Apache-2.0
//
// Sums by column of a matrix whose rows are dense: a vector of columns at a time, down the rows.
// What is not finite counts as zero.
#pragma once

#include "moments/kernels.h"
#include "moments/vector_ops_inl.h"

namespace torch_init {
namespace {

template <typename Format>
class ColumnReader {
 public:
  using Code = typename Format::Code;
  static constexpr int kColumns = TI_VECTOR_BYTES / sizeof(Code);

  // `columns` of them, at most kColumns, beginning at `data` in the row at offset 0.
  void read(const char* data, const int64_t* row_offset, int64_t rows, int columns) {
    constexpr int64_t kSize = sizeof(Code);
    if (columns == kColumns) {
      for (int64_t r = 0; r < rows; ++r) add(load<Codes>(data + row_offset[r] * kSize));
    } else {
      char padded[TI_VECTOR_BYTES] = {};
      for (int64_t r = 0; r < rows; ++r) {
        memcpy(padded, data + row_offset[r] * kSize, static_cast<size_t>(columns * kSize));
        add(load<Codes>(padded));
      }
    }
  }

  void add_to(int columns, double* positive, double* sum, double* sum_squares) const {
    for (int c = 0; c < columns; ++c) {
      positive[c] += static_cast<double>(positive_[c]);
      sum[c] += part(sum_, c) * power_of_two(Format::kScale);
      sum_squares[c] += part(sum_squares_, c) * power_of_two(2 * Format::kScale);
    }
  }

 private:
  using Codes = Vector<Code>;
  static constexpr int kPerWord = sizeof(Code) < 4 ? 4 / sizeof(Code) : 1;
  static constexpr int kHalves = sizeof(Code) < 8 ? 2 : 1;

  void add(Codes bits) {
    bits &= (bits & kMagnitude<Code>) < Format::kNotFinite;
    positive_ -= bits > 0;
    for (int i = 0; i < kPerWord; ++i) {
      for (int half = 0; half < kHalves; ++half) {
        const Doubles value = values<Format>(bits, i, half);
        sum_[i][half] += value;
        sum_squares_[i][half] = add_square<Format>(sum_squares_[i][half], value);
      }
    }
  }

  // The lane of column c: words hold kPerWord columns, halves of vectors half the words.
  static double part(const Doubles (&lanes)[kPerWord][kHalves], int c) {
    constexpr int kLanes = TI_VECTOR_BYTES / 8;
    const int word = c / kPerWord;
    return lanes[c % kPerWord][word / kLanes][word % kLanes];
  }

  Codes positive_ = {};
  Doubles sum_[kPerWord][kHalves] = {};
  Doubles sum_squares_[kPerWord][kHalves] = {};
};

template <typename Format>
void read_columns(const char* data, const int64_t* row_offset, int64_t rows, int64_t columns,
                  double* positive, double* sum, double* sum_squares) {
  using Reader = ColumnReader<Format>;
  for (int64_t c = 0; c < columns; c += Reader::kColumns) {
    const int64_t left = columns - c;
    const int n = static_cast<int>(left < Reader::kColumns ? left : Reader::kColumns);
    Reader reader;
    reader.read(data + c * static_cast<int64_t>(sizeof(typename Format::Code)), row_offset, rows,
                n);
    reader.add_to(n, positive + c, sum + c, sum_squares + c);
  }
}

}  // namespace
}  // namespace torch_init
