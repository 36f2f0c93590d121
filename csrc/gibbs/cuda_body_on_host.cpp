// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <type_traits>
#include <vector>

#include "gibbs/cluster_kernel.h"
#include "gibbs/gibbs_cuda.h"
#include "gibbs/split_kernel.h"
#include "gibbs/tile_kernel.h"
#include "portable/float_environment.h"

namespace torch_init {

void make_limbs_on_host(const LimbTask& task) {
  for (int64_t item = 0; item < limb_items(task); ++item) write_limbs(task, item);
}

int64_t gibbs_workspace_size(const GibbsTask& task) { return tile_workspace_size(task); }

void gibbs_half_steps_on_host(const GibbsTask& task, bool split, int blocks) {
  struct alignas(16) Vector {
    uint8_t bytes[16];
  };
  const DefaultFloatEnvironment environment;
  const float* const rows = task.threshold.table_f32.rows;
  std::vector<Vector> workspace(static_cast<size_t>(tile_workspace_size(task) / 16));
  TileStep step = first_tile_step(task, workspace.data());
  const auto launch_on = [&](int64_t count, const auto& body) {
    for (int64_t i = 0; i < count; ++i) body(HostBlock{i, count, kGibbsThreads});
  };
  const auto launch = [&](const auto& body) { launch_on(blocks, body); };
  for (int side : {kVisible, kHidden}) {
    if (!must_pack(task, side)) continue;
    launch([&](const HostBlock& block) { pack_states(block, step, side); });
  }
  if (task.grey != 0) launch([&](const HostBlock& block) { pack_levels(block, step); });
  for (; step.half_step < task.half_steps; ++step.half_step) {
    if (split && !is_grey(step)) {
      launch_on(split_blocks(step), [&](const HostBlock& block) {
        half_step_split(block, step, rows, std::make_unique<SplitShared>().get());
      });
      continue;
    }
    for (int64_t i = 0; i < blocks; ++i) {
      const HostBlock block = {i, blocks, kTileThreads};
      if (is_grey(step)) {
        half_step_tiles(block, step, rows, std::make_unique<TileShared<true>>().get());
      } else {
        half_step_tiles(block, step, rows, std::make_unique<TileShared<false>>().get());
      }
    }
  }
  for (int side : {kVisible, kHidden}) {
    if (!must_unpack(task, side)) continue;
    launch([&](const HostBlock& block) { unpack_states(block, step, side); });
  }
}

void gibbs_clusters_on_host(const GibbsTask& task, int size_bits, int chains) {
  const DefaultFloatEnvironment environment;
  const ClusterTask of_clusters = {task, size_bits};
  const auto run = [&](auto count) {
    constexpr int kChains = decltype(count)::value;
    const int64_t memory = shared_memory_of<kChains>(of_clusters, nullptr).size;
    for (int64_t i = 0; i < cluster_count<kChains>(task); ++i) {
      HostCluster cluster(i, 1 << size_bits, kGibbsThreads, memory);
      run_cluster<kChains>(cluster, of_clusters, task.threshold.table_f32.rows);
    }
  };
  if (chains == 8) run(std::integral_constant<int, 8>{});
  if (chains == 16) run(std::integral_constant<int, 16>{});
  if (chains == 32) run(std::integral_constant<int, 32>{});
}

void sample_float_body_on_host(const FloatTask& task, int blocks) {
  const DefaultFloatEnvironment environment;
  const RowsInMemory rows = {task.table.table_f32.rows};
  for (int64_t i = 0; i < blocks; ++i) {
    sample_float(HostBlock{i, blocks, kGibbsThreads}, task, rows);
  }
}

}  // namespace torch_init
