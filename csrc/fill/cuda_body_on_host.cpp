// SPDX-License-Identifier: Apache-2.0
#include "fill/fill_cuda.h"
#include "fill/fill_kernel.h"
#include "portable/float_environment.h"
#include "portable/thread_block.h"

namespace torch_init {

void cuda_body_on_host(const FillList& list, int blocks) {
  const DefaultFloatEnvironment environment;
  StagedTable staged;
  for (int64_t i = 0; i < blocks; ++i)
    fill_block(HostBlock{i, blocks, kFillThreads}, list, nullptr, &staged);
}

}  // namespace torch_init
