// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>

#include "gibbs/host_gibbs.h"
#include "portable/float_environment.h"
#include "portable/thread_team.h"

namespace torch_init {
namespace {

// Fields that make it worth starting a thread.
constexpr int64_t kFieldsPerThread = int64_t{1} << 13;

}  // namespace

void host_sample_float(const FloatTask& task, const GibbsKernels& kernels, int max_threads) {
  const int64_t fields = task.chains * task.units * std::max<int64_t>(1, task.categories);
  const int64_t useful = std::max<int64_t>(1, fields / kFieldsPerThread);
  const int threads = static_cast<int>(std::min<int64_t>(useful, std::max(1, max_threads)));
  std::atomic<int64_t> next{0};
  ThreadTeam().run(threads, [&](int) {
    const DefaultFloatEnvironment environment;
    for (int64_t chain; (chain = next.fetch_add(1)) < task.chains;) {
      kernels.sample_float(task, chain);
    }
  });
}

}  // namespace torch_init
