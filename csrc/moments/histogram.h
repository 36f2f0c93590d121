// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdint.h>

#include <memory>

#include "moments/bins.h"

namespace torch_init {

// What one thread has counted for the histogram.
class Histogram {
 public:
  // Pairs take 32 KiB, to be cleared and added up: not for a small tensor.
  explicit Histogram(int64_t elements)
      : pairs_(elements < kFewElements ? nullptr : new PairCounts()) {}

  PairCounts* pairs() { return pairs_.get(); }
  int64_t* bins() { return bins_; }

  void add_to(double* total) {
    if (pairs_ != nullptr) split_pairs();
    for (int i = 0; i < kBins; ++i) total[i] += static_cast<double>(bins_[i]);
  }

 private:
  static constexpr int64_t kFewElements = 8192;

  void split_pairs() {
    for (int b = 0; b < kBins; ++b) {
      int64_t of_b = 0;
      for (int a = 0; a < kBins; ++a) {
        int64_t count = 0;
        for (const auto& of : pairs_->of) count += of[a + kBins * b];
        bins_[a] += count;
        of_b += count;
      }
      bins_[b] += of_b;
    }
  }

  std::unique_ptr<PairCounts> pairs_;
  int64_t bins_[kBins] = {};
};

}  // namespace torch_init
