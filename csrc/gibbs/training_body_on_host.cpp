// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include "gibbs/training_cuda.h"
#include "portable/float_environment.h"

namespace torch_init {
namespace {

// Calls body(block) for each of `count` blocks.
template <typename Body>
void for_each_block(int64_t count, const Body& body) {
  const DefaultFloatEnvironment environment;
  for (int64_t i = 0; i < count; ++i) body(HostBlock{i, count, kGibbsThreads});
}

}  // namespace

template <typename Real>
void quantize_body_on_host(const QuantizeTask<Real>& task) {
  const auto measured = std::make_unique<MeasureShared>();
  const auto quantized = std::make_unique<QuantizeShared>();
  const int64_t blocks = quantize_blocks(task);
  for_each_block(blocks,
                 [&](const HostBlock& block) { measure_layer(block, task, measured.get()); });
  for_each_block(blocks,
                 [&](const HostBlock& block) { quantize_tile(block, task, quantized.get()); });
}

template void quantize_body_on_host(const QuantizeTask<float>&);
template void quantize_body_on_host(const QuantizeTask<double>&);

void statistics_body_on_host(const ProductTasks& tasks) {
  const auto run = [&](auto hidden) {
    using Hidden = decltype(hidden);
    const auto shared = std::make_unique<StatisticsShared<sizeof(Hidden)>>();
    const auto of_units = std::make_unique<UnitSumsShared>();
    for_each_block(statistics_blocks(tasks), [&](const HostBlock& block) {
      statistics_block<Hidden>(block, tasks, shared.get(), of_units.get());
    });
  };
  tasks.term[0].means != 0 ? run(int16_t{}) : run(uint8_t{});
}

void differences_body_on_host(const DifferencesTask& task) {
  for_each_block(3, [&](const HostBlock& block) { make_differences(block, task); });
}

void ascend_body_on_host(const ParametersTask& task) {
  const auto shared = std::make_unique<AscendShared>();
  for_each_block(ascend_blocks(task.weights), [&](const HostBlock& block) {
    switch (task.weights.pair_kind) {
      case PairKind::kInt32:
        return ascend_block<int32_t>(block, task, shared.get());
      case PairKind::kInt64:
        return ascend_block<int64_t>(block, task, shared.get());
      default:
        return ascend_block<float>(block, task, shared.get());
    }
  });
}

}  // namespace torch_init
