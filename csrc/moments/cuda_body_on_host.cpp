// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <vector>

#include "moments/flow_cuda.h"
#include "moments/measure_cuda.h"
#include "portable/float_environment.h"
#include "portable/thread_block.h"

namespace torch_init {

size_t measure_blob_size(size_t count) {
  return count * sizeof(MeasureTask) + (count + 1) * sizeof(int64_t);
}

void write_measure_blob(const MeasureTask* tasks, size_t count, void* out) {
  char* bytes = static_cast<char*>(out);
  std::vector<int64_t> first_chunk(count + 1, 0);
  for (size_t i = 0; i < count; ++i) {
    first_chunk[i + 1] = first_chunk[i] + chunk_count(tasks[i].region);
  }
  std::memcpy(bytes, tasks, count * sizeof(MeasureTask));
  std::memcpy(bytes + count * sizeof(MeasureTask), first_chunk.data(),
              (count + 1) * sizeof(int64_t));
}

void measure_body_on_host(const MeasureList& list, int blocks, Moments* of_task) {
  const DefaultFloatEnvironment environment;
  MeasureShared shared;
  std::vector<Moments> of_chunk(static_cast<size_t>(list.first_chunk[list.count]));
  for (int64_t i = 0; i < blocks; ++i) {
    measure_chunks(HostBlock{i, blocks, kMeasureThreads}, list, &shared, of_chunk.data());
  }
  for (int64_t i = 0; i < blocks; ++i) {
    add_up_chunks(HostBlock{i, blocks, kMeasureThreads}, list, of_chunk.data(), shared.of_thread,
                  of_task);
  }
}

size_t flow_scratch_size(const FlowTask& task) {
  const FlowWork work = flow_work(task);
  const int64_t columns = work.tiles == 0 ? 0 : 3 * task.features.columns;
  return static_cast<size_t>(work.chunks) * sizeof(Moments) +
         static_cast<size_t>(work.segments * columns) * sizeof(double);
}

FlowScratch flow_scratch_at(const FlowTask& task, void* memory) {
  Moments* const of_chunk = static_cast<Moments*>(memory);
  return {of_chunk, reinterpret_cast<double*>(of_chunk + flow_work(task).chunks)};
}

void accumulate_body_on_host(const FlowTask& task, int blocks) {
  const DefaultFloatEnvironment environment;
  std::vector<double> memory(flow_scratch_size(task) / sizeof(double));
  const FlowScratch scratch = flow_scratch_at(task, memory.data());
  FlowShared shared;
  for (int64_t i = 0; i < blocks; ++i) {
    read_flow_units(HostBlock{i, blocks, kMeasureThreads}, task, scratch, &shared);
  }
  for (int64_t i = 0; i < blocks; ++i) {
    add_up_flow(HostBlock{i, blocks, kMeasureThreads}, task, scratch, &shared);
  }
}

}  // namespace torch_init
