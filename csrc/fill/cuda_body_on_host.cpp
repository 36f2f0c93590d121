// SPDX-License-Identifier: Apache-2.0
#include "fill/fill_cuda.h"
#include "fill/fill_kernel.h"
#include "portable/float_environment.h"

namespace torch_init {
namespace {

// A barrier needs nothing: every thread has finished what came before it.
struct HostBlock {
  int64_t block_index;
  int64_t block_count;

  int64_t index() const { return block_index; }
  int64_t count() const { return block_count; }
  void barrier() const {}
  template <typename Function>
  void for_each_thread(const Function& function) const {
    for (int thread = 0; thread < kFillThreads; ++thread) function(thread);
  }
};

}  // namespace

void cuda_body_on_host(const FillList& list, int blocks) {
  const DefaultFloatEnvironment environment;
  StagedTable staged;
  for (int64_t i = 0; i < blocks; ++i) fill_block(HostBlock{i, blocks}, list, nullptr, &staged);
}

}  // namespace torch_init
