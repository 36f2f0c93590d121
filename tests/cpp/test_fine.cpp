// SPDX-License-Identifier: Apache-2.0
//
// Half-steps from fine levels and statistics of them by each tier, every array of just its size, so
// that a sanitizer sees what is read or written beyond it; and of more rows than double could add
// up.
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "cpu/tiers.h"
#include "distributions/lower.h"
#include "gibbs/host_gibbs.h"
#include "gibbs/mean.h"
#include "gibbs/statistics.h"
#include "random/philox.h"

namespace torch_init {
namespace {

std::vector<int16_t> levels(int64_t count, uint64_t first) {
  std::vector<int16_t> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<int16_t>(stream_word(77, first + i) % (kMeanOne + 1));
  }
  return values;
}

// The hidden units that are on, and their means, by the definition and by a tier.
void test_half_step(const Tier& tier, int64_t visible, int64_t hidden, int64_t chains) {
  constexpr int kShift = 20;
  const int64_t stride = padded(hidden);
  const auto integers = [](int64_t count, uint64_t first) {
    std::vector<int32_t> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<int32_t>(stream_word(78, first + i)) >> 11;
    }
    return values;
  };
  const std::vector<int16_t> rows = levels(chains * visible, 0);
  const std::vector<int32_t> weights = integers(visible * stride, 0);
  const std::vector<int32_t> bias = integers(stride, 1u << 30);
  std::vector<uint8_t> states(static_cast<size_t>(chains * hidden));
  std::vector<int16_t> means(static_cast<size_t>(chains * hidden));
  const LoweredDistribution threshold = lower_logistic(0.0, power_of_two(kShift), DType::kFloat32);
  GibbsTask task{};
  SideWeights& side = task.side[kHidden];
  side.units = task.side[kVisible].sources = hidden;
  side.sources = task.side[kVisible].units = visible;
  side.by_source = weights.data();
  side.by_source_stride = stride;
  side.bias = bias.data();
  task.state[kHidden] = states.data();
  task.chains = chains;
  task.key = 5;
  task.first_side = kHidden;
  task.half_steps = 1;
  task.fine = rows.data();
  task.means = means.data();
  task.scale = static_cast<float>(power_of_two(-kShift));
  task.threshold = threshold.distribution;
  host_gibbs(task, *tier.gibbs, 2);
  bool same = true;
  for (int64_t c = 0; c < chains; ++c) {
    for (int64_t j = 0; j < hidden; ++j) {
      int64_t field = kFineLevels * bias[static_cast<size_t>(j)];
      for (int64_t i = 0; i < visible; ++i) {
        field += int64_t{rows[static_cast<size_t>(c * visible + i)]} *
                 weights[static_cast<size_t>(i * stride + j)];
      }
      const auto chain = static_cast<uint32_t>(c);
      const PhiloxBlock words =
          philox4x32_10(gibbs_counter(static_cast<uint32_t>(j / 4), chain, 0, kHidden), task.key);
      const int32_t limit = threshold_of(words.word[j % 4], task.threshold);
      const auto at = static_cast<size_t>(c * hidden + j);
      same &= (states[at] != 0) == (field > kFineLevels * limit);
      const float ones = ones_of(field, kFineLevels);
      same &= means[at] == fixed_mean(real_field(ones, task.scale, kBetaOne));
    }
  }
  check(same, std::string(tier.name) + ": half-step of " + std::to_string(visible) + " x " +
                  std::to_string(hidden) + ", " + std::to_string(chains) + " chains");
}

void test_sums(const Tier& tier, int64_t visible, int64_t hidden, int64_t chains) {
  const std::vector<int16_t> rows = levels(chains * visible, 0);
  const std::vector<int16_t> means = levels(chains * hidden, 1u << 30);
  std::vector<int64_t> out(static_cast<size_t>(visible * hidden), 5);
  std::vector<int64_t> visible_sums(static_cast<size_t>(visible));
  std::vector<int64_t> hidden_sums(static_cast<size_t>(hidden));
  StatisticsTask task{};
  StatisticsTerm& term = task.term[0];
  term.fine = rows.data();
  term.hidden = means.data();
  term.hidden_kind = HiddenKind::kMeans;
  term.hidden_stride = hidden;
  term.chains = chains;
  term.weight = -3;
  term.visible_sums = visible_sums.data();
  term.hidden_sums = hidden_sums.data();
  task.terms = 1;
  task.units[0] = visible;
  task.units[1] = hidden;
  task.out = out.data();
  task.wide = 1;
  task.accumulate = 1;
  host_statistics(task, tier.gibbs->statistics, 2);
  bool same = true;
  for (int64_t i = 0; i < visible; ++i) {
    int64_t of_unit = 0;
    for (int64_t c = 0; c < chains; ++c) of_unit += rows[static_cast<size_t>(c * visible + i)];
    same &= visible_sums[static_cast<size_t>(i)] == of_unit;
    for (int64_t j = 0; j < hidden; ++j) {
      int64_t sum = 5;
      for (int64_t c = 0; c < chains; ++c) {
        sum -= int64_t{3} * rows[static_cast<size_t>(c * visible + i)] *
               means[static_cast<size_t>(c * hidden + j)];
      }
      same &= out[static_cast<size_t>(i * hidden + j)] == sum;
    }
  }
  check(same, std::string(tier.name) + ": " + std::to_string(visible) + " x " +
                  std::to_string(hidden) + ", " + std::to_string(chains) + " chains");
}

// An odd sum beyond 2^53. All chains share the row of hidden units.
void test_many_chains(const Tier& tier) {
  constexpr int64_t kChains = (int64_t{1} << 23) + 1001;
  const std::vector<int16_t> rows(static_cast<size_t>(kChains), kMeanOne);
  const std::vector<int16_t> means(kWidestStatisticsTile, kMeanOne);
  int64_t out = 0;
  int64_t visible_sum = 0;
  StatisticsTask task{};
  StatisticsTerm& term = task.term[0];
  term.fine = rows.data();
  term.hidden = means.data();
  term.hidden_kind = HiddenKind::kMeans;
  term.chains = kChains;
  term.weight = 1;
  term.visible_sums = &visible_sum;
  task.terms = 1;
  task.units[0] = 1;
  task.units[1] = 1;
  task.out = &out;
  task.wide = 1;
  std::vector<char> scratch(static_cast<size_t>(statistics_scratch(term, 1)));
  tier.gibbs->statistics.run(task, 0, 1, scratch.data());
  check(out == kChains * kMeanOne * kMeanOne, std::string(tier.name) + ": many chains");
  check(visible_sum == kChains * kMeanOne, std::string(tier.name) + ": sum of many chains");
}

}  // namespace
}  // namespace torch_init

int main() {
  using namespace torch_init;
  for (const char* name : {"baseline", "avx2", "avx512"}) {
    const Tier* const tier = find_tier(name);
    if (tier == nullptr) {
      std::printf("skipped: %s is not built or not on this processor\n", name);
      continue;
    }
    for (const auto& [visible, hidden] : {std::pair<int64_t, int64_t>{1, 1}, {70, 65}, {3, 300}}) {
      for (const int64_t chains : {0, 1, 512, 1100}) test_sums(*tier, visible, hidden, chains);
      for (const int64_t chains : {0, 1, 3, 130}) test_half_step(*tier, visible, hidden, chains);
    }
    test_many_chains(*tier);
  }
  return verdict();
}
