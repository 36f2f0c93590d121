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

}  // namespace

void host_statistics(const StatisticsTask& task, const StatisticsKernels& kernels,
                     int max_threads) {
  // Rows that may be read in whole vectors.
  constexpr int64_t kVector = 64;
  StatisticsTask staged = task;
  staged.hidden_stride = (task.units[1] + kVector - 1) / kVector * kVector;
  std::vector<uint8_t> rows(static_cast<size_t>(staged.hidden_stride * task.chains));
  for (int64_t c = 0; c < task.chains; ++c) {
    std::copy_n(task.hidden + c * task.hidden_stride, task.units[1],
                rows.data() + c * staged.hidden_stride);
  }
  staged.hidden = rows.data();

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

}  // namespace torch_init
