// SPDX-License-Identifier: Apache-2.0
#include "moments/measure.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "moments/read_region.h"
#include "portable/float_environment.h"
#include "portable/thread_team.h"

namespace torch_init {
namespace {

// A thread must have at least this much to do before starting it (some 25 us) pays.
constexpr int64_t kElementsPerThread = int64_t{1} << 19;

Moments measure_chunk(const MeasureTask& task, int64_t chunk, const MomentsKernels& kernels) {
  Moments moments = no_moments();
  const int64_t begin = chunk * kMeasureChunk;
  read_region(task.data, element_size(task.dtype), task.region, begin,
              std::min(begin + kMeasureChunk, task.region.numel),
              [&](const void* data, uint64_t index, int64_t count) {
                kernels.fingerprint(task.dtype, data, index, count, &moments);
              });
  return moments;
}

}  // namespace

void host_measure(const MeasureTask* tasks, size_t count, const MomentsKernels& kernels,
                  int max_threads, Moments* moments) {
  int64_t elements = 0;
  std::vector<int64_t> first_chunk(count + 1, 0);
  for (size_t i = 0; i < count; ++i) {
    elements += tasks[i].region.numel;
    first_chunk[i + 1] = first_chunk[i] + chunk_count(tasks[i].region);
  }

  std::vector<Moments> parts(static_cast<size_t>(first_chunk[count]));
  const int64_t useful = std::max<int64_t>(1, elements / kElementsPerThread);
  std::atomic<int64_t> next{0};
  ThreadTeam().run(static_cast<int>(std::min<int64_t>(useful, max_threads)), [&](int) {
    const DefaultFloatEnvironment environment;
    size_t task = 0;
    for (int64_t chunk; (chunk = next.fetch_add(1)) < first_chunk[count];) {
      while (chunk >= first_chunk[task + 1]) ++task;
      parts[static_cast<size_t>(chunk)] =
          measure_chunk(tasks[task], chunk - first_chunk[task], kernels);
    }
  });

  const DefaultFloatEnvironment environment;
  for (size_t i = 0; i < count; ++i) {
    moments[i] = no_moments();
    for (int64_t chunk = first_chunk[i]; chunk < first_chunk[i + 1]; ++chunk) {
      add_moments(&moments[i], parts[static_cast<size_t>(chunk)]);
    }
  }
}

}  // namespace torch_init
