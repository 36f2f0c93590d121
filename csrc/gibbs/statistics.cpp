// SPDX-License-Identifier: Apache-2.0
#include "gibbs/statistics.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "portable/thread_team.h"

namespace torch_init {
namespace {

// Products that a thread must have to add up before starting it pays.
constexpr double kProductsPerThread = 8e6;
// Rows may be read in whole tiles, and an odd number of cache lines lies between two: a power of
// two would have them compete for few of the cache's sets.
constexpr int64_t kLine = 64;

// A copy of a term's hidden rows that a tier's kernel can read, and their sums.
template <typename Hidden>
std::vector<char> stage(StatisticsTerm& term, int64_t units) {
  constexpr int64_t kPerLine = kLine / static_cast<int64_t>(sizeof(Hidden));
  const int64_t stride = (whole_tiles(units) / kPerLine | 1) * kPerLine;
  std::vector<char> memory(static_cast<size_t>(stride * term.chains) * sizeof(Hidden));
  Hidden* const rows = reinterpret_cast<Hidden*>(memory.data());
  std::fill_n(term.hidden_sums, units, 0);
  std::vector<int32_t> sums(static_cast<size_t>(units));
  // As many chains as 32 bits can add up.
  constexpr int64_t kSpan = 65536;
  for (int64_t c = 0; c < term.chains; ++c) {
    const Hidden* const from = static_cast<const Hidden*>(term.hidden) + c * term.hidden_stride;
    std::copy_n(from, units, rows + c * stride);
    for (int64_t j = 0; j < units; ++j) sums[static_cast<size_t>(j)] += from[j];
    if (c % kSpan < kSpan - 1 && c + 1 < term.chains) continue;
    for (int64_t j = 0; j < units; ++j) term.hidden_sums[j] += sums[static_cast<size_t>(j)];
    std::fill(sums.begin(), sums.end(), 0);
  }
  term.hidden = rows;
  term.hidden_stride = stride;
  return memory;
}

}  // namespace

void host_statistics(const StatisticsTask& task, const StatisticsKernels& kernels,
                     int max_threads) {
  StatisticsTask staged = task;
  std::vector<char> memory[kMostTerms];
  int64_t chains = 0;
  int64_t scratch_size = 0;
  for (int t = 0; t < task.terms; ++t) {
    StatisticsTerm& term = staged.term[t];
    const bool states = term.hidden_kind == HiddenKind::kStates;
    memory[t] = (states ? stage<uint8_t> : stage<int16_t>)(term, task.units[1]);
    chains += term.chains;
    scratch_size += statistics_scratch(term, task.units[1]);
  }

  const double products = static_cast<double>(task.units[0]) * static_cast<double>(task.units[1]) *
                          static_cast<double>(chains);
  const double useful = std::max(1.0, products / kProductsPerThread);
  const int threads = static_cast<int>(std::min<double>(useful, std::max(1, max_threads)));
  std::atomic<int64_t> next{0};
  ThreadTeam().run(threads, [&](int) {
    const std::unique_ptr<char[]> scratch(new char[static_cast<size_t>(scratch_size)]);
    for (int64_t first; (first = next.fetch_add(kStatisticsUnits)) < task.units[0];) {
      kernels.run(staged, first, std::min(kStatisticsUnits, task.units[0] - first), scratch.get());
    }
  });
}

}  // namespace torch_init
