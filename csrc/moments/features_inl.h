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
  using Codes = Vector<Code>;
  static constexpr int kColumns = TI_VECTOR_BYTES / sizeof(Code);

  void add(Codes bits) {
    bits &= (bits & kMagnitude<Code>) < Format::kNotFinite;
    positive_ = counted(positive_, bits > 0);
    for (int i = 0; i < kPlaces; ++i) {
      for (int half = 0; half < kHalves; ++half) {
        const Doubles value = values<Format>(bits, i, half);
        sum_[i][half] += value;
        squares_[i][half] = add_square<Format>(squares_[i][half], value);
      }
    }
  }

  void add_to(int columns, double* positive, double* sum, double* squares) const {
    Code positive_of[kColumns];
    store(positive_of, positive_);
    double sum_of[kColumns];
    double squares_of[kColumns];
    to_columns(sum_, sum_of);
    to_columns(squares_, squares_of);
    for (int c = 0; c < columns; ++c) {
      positive[c] += static_cast<double>(positive_of[c]);
      sum[c] += sum_of[c] * power_of_two(Format::kScale);
      squares[c] += squares_of[c] * power_of_two(2 * Format::kScale);
    }
  }

 private:
  static constexpr int kPlaces = sizeof(Code) < 4 ? 4 / sizeof(Code) : 1;
  static constexpr int kHalves = sizeof(Code) < 8 ? 2 : 1;
  using Lanes = Doubles[kPlaces][kHalves];

  // Column c is place c % kPlaces of word c / kPlaces; a half has half the words.
  static void to_columns(const Lanes& lanes, double* column) {
    constexpr int kWords = TI_VECTOR_BYTES / 8;
    for (int i = 0; i < kPlaces; ++i) {
      for (int half = 0; half < kHalves; ++half) {
        double of_word[kWords];
        store(of_word, lanes[i][half]);
        for (int w = 0; w < kWords; ++w) column[(half * kWords + w) * kPlaces + i] = of_word[w];
      }
    }
  }

  Codes positive_ = {};
  Lanes sum_ = {};
  Lanes squares_ = {};
};

template <typename Format>
void read_columns(const char* data, const int64_t* row_offset, int64_t rows, int64_t columns,
                  double* positive, double* sum, double* squares) {
  using Reader = ColumnReader<Format>;
  using Codes = typename Reader::Codes;
  constexpr int64_t kSize = sizeof(typename Format::Code);
  int64_t c = 0;
  for (; c + Reader::kColumns <= columns; c += Reader::kColumns) {
    Reader reader;
    for (int64_t r = 0; r < rows; ++r) reader.add(load<Codes>(data + (row_offset[r] + c) * kSize));
    reader.add_to(Reader::kColumns, positive + c, sum + c, squares + c);
  }
  if (c == columns) return;
  const int rest = static_cast<int>(columns - c);
  Reader reader;
  for (int64_t r = 0; r < rows; ++r) {
    char padded[TI_VECTOR_BYTES] = {};
    memcpy(padded, data + (row_offset[r] + c) * kSize, static_cast<size_t>(rest * kSize));
    reader.add(load<Codes>(padded));
  }
  reader.add_to(rest, positive + c, sum + c, squares + c);
}

}  // namespace
}  // namespace torch_init
