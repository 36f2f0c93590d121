// SPDX-License-Identifier: Apache-2.0
#include "gibbs/ascend.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "portable/float_environment.h"
#include "portable/thread_team.h"

namespace torch_init {
namespace {

// Weights that make it worth starting a thread.
constexpr int64_t kWeightsPerThread = int64_t{1} << 17;

}  // namespace

void host_ascend(const AscendTask& task, const AscendKernels& kernels, int max_threads) {
  const int64_t useful = std::max<int64_t>(1, task.visible * task.hidden / kWeightsPerThread);
  const int threads = static_cast<int>(std::min<int64_t>(useful, std::max(1, max_threads)));
  const int64_t pieces = (task.hidden + kAscendUnits - 1) / kAscendUnits;
  std::vector<float> parts(static_cast<size_t>(pieces * task.visible));
  std::atomic<int64_t> next{0};
  ThreadTeam().run(threads, [&](int) {
    const DefaultFloatEnvironment environment;
    std::vector<float> scratch(static_cast<size_t>(kAscendScratch));
    for (int64_t piece; (piece = next.fetch_add(1)) < pieces;) {
      const int64_t first = piece * kAscendUnits;
      kernels.run(task, first, std::min(kAscendUnits, task.hidden - first),
                  parts.data() + piece * task.visible, scratch.data());
    }
  });
  const DefaultFloatEnvironment environment;
  std::fill_n(task.visible_shift, task.visible, 0.0f);
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const float* const part = parts.data() + piece * task.visible;
    for (int64_t i = 0; i < task.visible; ++i) task.visible_shift[i] += part[i];
  }
}

}  // namespace torch_init
