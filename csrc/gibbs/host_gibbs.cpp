// SPDX-License-Identifier: Apache-2.0
#include "gibbs/host_gibbs.h"

#include <algorithm>
#include <atomic>
#include <memory>

#include "portable/float_environment.h"
#include "portable/thread_team.h"

namespace torch_init {
namespace {

// A thread must have at least this many products of a weight and a state to add up before starting
// it (some 25 us) pays.
constexpr double kProductsPerThread = 2e6;
// Chains a vector of the widest tier holds.
constexpr int64_t kChainAlignment = 16;
constexpr size_t kScratchAlignment = 64;

// Chains in pieces of equal size, so that every thread has work.
int64_t piece_size(int64_t chains, int64_t most, int64_t threads) {
  const int64_t vectors = (chains + kChainAlignment - 1) / kChainAlignment;
  const int64_t most_vectors = most / kChainAlignment;
  int64_t pieces = (vectors + most_vectors - 1) / most_vectors;
  pieces = (pieces + threads - 1) / threads * threads;
  return std::max<int64_t>(1, (vectors + pieces - 1) / pieces) * kChainAlignment;
}

}  // namespace

void in_pieces(const GibbsTask& task, const GibbsKernels& kernels, int max_threads,
               const std::function<void(int64_t, int64_t, void*)>& run) {
  if (task.chains == 0 || task.half_steps == 0) return;
  const double products = static_cast<double>(task.side[kVisible].units) *
                          static_cast<double>(task.side[kHidden].units) *
                          static_cast<double>(task.chains) * static_cast<double>(task.half_steps);
  const double useful = std::max(1.0, products / kProductsPerThread);
  const int threads = static_cast<int>(std::min<double>(useful, std::max(1, max_threads)));
  const int64_t piece = piece_size(task.chains, kernels.most_chains, threads);
  const size_t scratch_size = static_cast<size_t>(kernels.scratch_size(task, piece));
  std::atomic<int64_t> next{0};
  ThreadTeam().run(threads, [&](int) {
    const DefaultFloatEnvironment environment;
    std::unique_ptr<char[]> memory;
    for (int64_t first; (first = next.fetch_add(piece)) < task.chains;) {
      if (!memory) memory.reset(new char[scratch_size + kScratchAlignment]);
      const uintptr_t address = reinterpret_cast<uintptr_t>(memory.get());
      char* const scratch = memory.get() + (kScratchAlignment - address % kScratchAlignment);
      run(first, std::min(piece, task.chains - first), scratch);
    }
  });
}

void host_gibbs(const GibbsTask& task, const GibbsKernels& kernels, int max_threads) {
  in_pieces(task, kernels, max_threads, [&](int64_t first, int64_t count, void* scratch) {
    kernels.run(task, first, count, scratch);
  });
}

}  // namespace torch_init
