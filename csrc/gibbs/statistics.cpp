// SPDX-License-Identifier: Apache-2.0
#include "gibbs/statistics.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "portable/thread_team.h"

namespace torch_init {
namespace {

// Products that a thread must have to add up before starting it pays.
constexpr double kProductsPerThread = 8e6;
// Rows may be read in whole vectors, and an odd number of cache lines lies between two: a power of
// two would have them compete for few of the cache's sets.
constexpr int64_t kLine = 64;
constexpr int64_t kWidestVector = 64;

template <typename Hidden>
std::vector<Hidden> staged_rows(const StatisticsTask& task, int64_t* stride) {
  constexpr int64_t kPerLine = kLine / static_cast<int64_t>(sizeof(Hidden));
  const int64_t whole = (task.units[1] + kWidestVector - 1) / kWidestVector * kWidestVector;
  *stride = (whole / kPerLine | 1) * kPerLine;
  std::vector<Hidden> rows(static_cast<size_t>(*stride * task.chains));
  const Hidden* const hidden = static_cast<const Hidden*>(task.hidden);
  for (int64_t c = 0; c < task.chains; ++c) {
    std::copy_n(hidden + c * task.hidden_stride, task.units[1], rows.data() + c * *stride);
  }
  return rows;
}

template <typename Hidden>
void add_hidden(const StatisticsTask& task) {
  std::fill_n(task.hidden_sums, task.units[1], 0);
  const Hidden* row = static_cast<const Hidden*>(task.hidden);
  for (int64_t c = 0; c < task.chains; ++c, row += task.hidden_stride) {
    for (int64_t j = 0; j < task.units[1]; ++j) task.hidden_sums[j] += row[j];
  }
}

template <typename Hidden>
void run(const StatisticsTask& task, const StatisticsKernels& kernels, int max_threads) {
  StatisticsTask staged = task;
  const std::vector<Hidden> rows = staged_rows<Hidden>(task, &staged.hidden_stride);
  staged.hidden = rows.data();
  if (task.hidden_sums != nullptr) add_hidden<Hidden>(task);

  const double products = static_cast<double>(task.units[0]) * static_cast<double>(task.units[1]) *
                          static_cast<double>(task.chains);
  const double useful = std::max(1.0, products / kProductsPerThread);
  const int threads = static_cast<int>(std::min<double>(useful, std::max(1, max_threads)));
  std::atomic<int64_t> next{0};
  ThreadTeam().run(threads, [&](int) {
    // One more: a chain is written before it is known to be on.
    std::vector<int32_t> scratch(static_cast<size_t>(kStatisticsUnits * task.chains + 1));
    for (int64_t first; (first = next.fetch_add(kStatisticsUnits)) < task.units[0];) {
      kernels.run(staged, first, std::min(kStatisticsUnits, task.units[0] - first), scratch.data());
    }
  });
}

}  // namespace

void host_statistics(const StatisticsTask& task, const StatisticsKernels& kernels,
                     int max_threads) {
  const bool states = task.hidden_kind == HiddenKind::kStates;
  (states ? run<uint8_t> : run<int16_t>)(task, kernels, max_threads);
}

}  // namespace torch_init
