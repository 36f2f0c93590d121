// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <vector>

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
  std::vector<Moments> of_thread(kMeasureThreads);
  std::vector<Moments> of_chunk(static_cast<size_t>(list.first_chunk[list.count]));
  for (int64_t i = 0; i < blocks; ++i) {
    measure_chunks(HostBlock{i, blocks, kMeasureThreads}, list, of_thread.data(), of_chunk.data());
  }
  for (int64_t i = 0; i < blocks; ++i) {
    add_up_chunks(HostBlock{i, blocks, kMeasureThreads}, list, of_chunk.data(), of_thread.data(),
                  of_task);
  }
}

}  // namespace torch_init
