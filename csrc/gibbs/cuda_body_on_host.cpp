// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "gibbs/gibbs_cuda.h"
#include "portable/float_environment.h"

namespace torch_init {

int64_t gibbs_workspace_size(const GibbsTask& task) {
  return octets(task) * (padded(task.side[kVisible].units) + padded(task.side[kHidden].units));
}

void gibbs_body_on_host(const GibbsTask& task, int blocks) {
  const DefaultFloatEnvironment environment;
  std::vector<uint8_t> workspace(static_cast<size_t>(gibbs_workspace_size(task)));
  GibbsStep step = first_gibbs_step(task, workspace.data());
  const RowsInMemory rows = {task.threshold.table_f32.rows};
  const auto launch = [&](const auto& body) {
    for (int64_t i = 0; i < blocks; ++i) body(HostBlock{i, blocks, kGibbsThreads});
  };
  if (task.grey != 0) {
    launch([&](const HostBlock& block) { grey_block(block, step, rows); });
    return;
  }
  for (int side : {kVisible, kHidden}) {
    if (!must_pack(task, side)) continue;
    launch([&](const HostBlock& block) { pack_states(block, step, side); });
  }
  for (; step.half_step < task.half_steps; ++step.half_step) {
    launch([&](const HostBlock& block) { half_step_block(block, step, rows); });
  }
  for (int side : {kVisible, kHidden}) {
    if (!must_unpack(task, side)) continue;
    launch([&](const HostBlock& block) { unpack_states(block, step, side); });
  }
}

void sample_float_body_on_host(const FloatTask& task, int blocks) {
  const DefaultFloatEnvironment environment;
  const RowsInMemory rows = {task.table.table_f32.rows};
  for (int64_t i = 0; i < blocks; ++i) {
    sample_float(HostBlock{i, blocks, kGibbsThreads}, task, rows);
  }
}

}  // namespace torch_init
