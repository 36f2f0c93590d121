// SPDX-License-Identifier: Apache-2.0
//
// Gibbs chains: each tier and the CUDA bodies against the definition, one unit at a time. Python
// tests compare with NumPy; here every array is of just its size, so that a sanitizer sees what is
// read or written beyond it, and every sum that a signed integer would not hold.
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "cpu/tiers.h"
#include "distributions/lower.h"
#include "gibbs/ais.h"
#include "gibbs/gibbs_cuda.h"
#include "gibbs/host_gibbs.h"
#include "gibbs/quantize.h"

namespace torch_init {

#if defined(TORCH_INIT_EMULATED_AVX512)
// csrc/cpu/gibbs_avx512.cpp compiled for any processor (simde/immintrin.h).
const GibbsKernels& emulated_avx512_gibbs_kernels();
#endif

namespace {

struct NamedKernels {
  std::string name;
  const GibbsKernels* kernels;
};

// What this processor runs. Says what is missing.
std::vector<NamedKernels> implementations() {
  std::vector<NamedKernels> found;
  for (const char* name : {"baseline", "avx2", "avx512"}) {
    if (const Tier* tier = find_tier(name)) {
      found.push_back({name, tier->gibbs});
    } else {
      std::printf("skipped: %s is not built or not on this processor\n", name);
    }
  }
#if defined(TORCH_INIT_EMULATED_AVX512)
  found.push_back({"emulated avx512", &emulated_avx512_gibbs_kernels()});
#else
  std::printf("skipped: emulated avx512, SIMDe (Debian: libsimde-dev) was not found\n");
#endif
  return found;
}

constexpr uint64_t kKey = 0x1234567890abcdefu;

uint32_t random_word(uint64_t index) { return stream_word(77, index); }

// A layer of random weights and its room, quantised by a tier.
struct TestLayer {
  TestLayer(int64_t visible, int64_t hidden, float scale, const GibbsKernels& kernels)
      : units{visible, hidden} {
    const auto numbers = [&](int64_t count, uint64_t first) {
      std::vector<float> values(static_cast<size_t>(count));
      for (size_t i = 0; i < values.size(); ++i) {
        const auto word = static_cast<int32_t>(random_word(first + i));
        values[i] = scale * static_cast<float>(word) * 0x1p-31f;
      }
      return values;
    };
    const auto integers = [](int64_t count) {
      return std::vector<int32_t>(static_cast<size_t>(count), -1);
    };
    const std::vector<float> weight = numbers(visible * hidden, 0);
    const std::vector<float> bias[2] = {numbers(visible, 1u << 20), numbers(hidden, 1u << 21)};
    by_visible = integers(visible * padded(hidden));
    by_hidden = integers(hidden * padded(visible));
    for (size_t s = 0; s < 2; ++s) {
      biases[s] = integers(padded(units[s]));
      sums[s] = integers(padded(units[s]));
      limbs[s].resize(static_cast<size_t>(limbs_size(units[s], units[1 - s])));
    }
    const Layer<float> from = {weight.data(), {bias[0].data(), bias[1].data()}, {visible, hidden}};
    const QuantizedLayer to = {by_visible.data(),
                               by_hidden.data(),
                               {biases[0].data(), biases[1].data()},
                               {sums[0].data(), sums[1].data()}};
    check(quantize_layer(from, kernels, 2, to, &shift), "quantize_layer");
    make_limbs_on_host({by_visible.data(), visible, hidden, limbs[0].data()});
    make_limbs_on_host({by_hidden.data(), hidden, visible, limbs[1].data()});
  }

  SideWeights side(int s) const {
    const std::vector<int32_t>& by_unit = s == kVisible ? by_visible : by_hidden;
    const std::vector<int32_t>& by_source = s == kVisible ? by_hidden : by_visible;
    return {units[s],         units[1 - s],         by_unit.data(),
            by_source.data(), padded(units[1 - s]), padded(units[s]),
            biases[s].data(), sums[s].data(),       limbs[s].data()};
  }

  bool same(const TestLayer& other) const {
    return shift == other.shift && by_visible == other.by_visible && by_hidden == other.by_hidden &&
           biases[0] == other.biases[0] && biases[1] == other.biases[1] &&
           sums[0] == other.sums[0] && sums[1] == other.sums[1];
  }

  int64_t units[2];
  std::vector<int32_t> by_visible, by_hidden, biases[2], sums[2];
  std::vector<uint8_t> limbs[2];
  int32_t shift = 0;
};

// The definition.
void one_by_one(const GibbsTask& task) {
  for (int64_t n = 0; n < task.half_steps; ++n) {
    const int to = side_of(task, n);
    const SideWeights& side = task.side[to];
    const uint64_t step = task.first_step + static_cast<uint64_t>(n / 2);
    for (int64_t c = 0; c < task.chains; ++c) {
      const uint8_t* sources = task.state[1 - to] + c * side.sources;
      for (int64_t j = 0; j < side.units; ++j) {
        int64_t sum = 0;
        for (int64_t i = 0; i < side.sources; ++i) {
          sum += int64_t{sources[i]} * side.by_source[i * side.by_source_stride + j];
        }
        const uint32_t chain = task.first_chain + static_cast<uint32_t>(c);
        const PhiloxBlock words =
            philox4x32_10(gibbs_counter(static_cast<uint32_t>(j / 4), chain, step, to), task.key);
        const int32_t threshold = threshold_of(words.word[j % 4], task.threshold);
        int64_t field = side.bias[j] + sum;
        if (task.spin[1 - to] != 0) field = side.bias[j] - side.sums[j] + 2 * sum;
        if (task.grey != 0) field = kLevels * side.bias[j] + sum;
        if (task.spin[to] != 0) field *= 2;
        const bool kept = to == kVisible && task.clamped != nullptr && task.clamped[j] != 0;
        const int64_t beta = task.beta == nullptr ? kBetaOne : task.beta[c];
        const int64_t levels = task.grey != 0 ? kLevels : 1;
        if (!kept) {
          task.state[to][c * side.units + j] = beta * field > threshold * levels * kBetaOne;
        }
      }
    }
  }
}

// States of `chains` chains, each array of just its size.
struct States {
  States(const TestLayer& layer, int64_t chains, bool grey) {
    for (int s : {kVisible, kHidden}) {
      of_side[s].resize(static_cast<size_t>(chains * layer.units[s]));
      for (size_t i = 0; i < of_side[s].size(); ++i) {
        const uint32_t word = random_word((uint64_t{1} << 30) + i);
        of_side[s][i] = static_cast<uint8_t>(grey && s == kVisible ? word & 255 : word & 1);
      }
    }
  }
  bool same(const States& other) const {
    return of_side[0] == other.of_side[0] && of_side[1] == other.of_side[1];
  }
  std::vector<uint8_t> of_side[2];
};

struct Variant {
  std::string name;
  int spin[2];
  bool clamped;
  bool beta;
  bool grey;
  int first_side;
  int64_t half_steps;
};

const Variant kVariants[] = {
    {"plain", {0, 0}, false, false, false, kHidden, 4},
    {"one half-step", {0, 0}, false, false, false, kVisible, 1},
    {"spins, beta", {1, 1}, false, true, false, kHidden, 3},
    {"mixed, clamped", {0, 1}, true, false, false, kVisible, 3},
    {"spin sources, clamped, beta", {1, 0}, true, true, false, kHidden, 2},
    {"grey", {0, 0}, false, false, true, kHidden, 1},
    {"grey, spins, beta", {0, 1}, false, true, true, kHidden, 1},
};

void test_chains(const std::vector<NamedKernels>& all, int64_t visible, int64_t hidden,
                 int64_t chains, float scale) {
  const TestLayer layer(visible, hidden, scale, baseline_gibbs_kernels());
  const LoweredDistribution threshold =
      lower_logistic(0.0, power_of_two(layer.shift), DType::kFloat32);
  std::vector<uint8_t> clamped(static_cast<size_t>(visible));
  for (size_t i = 0; i < clamped.size(); ++i) clamped[i] = i % 3 == 0;
  std::vector<int32_t> beta(static_cast<size_t>(chains));

  for (const Variant& variant : kVariants) {
    for (size_t c = 0; c < beta.size(); ++c) {
      const auto most = variant.grey ? kBetaOne : 16 * kBetaOne;
      beta[c] = static_cast<int32_t>(random_word(c) % static_cast<uint32_t>(most + 1));
    }
    GibbsTask task{};
    for (int s : {kVisible, kHidden}) {
      task.side[s] = layer.side(s);
      task.spin[s] = variant.spin[s];
    }
    task.clamped = variant.clamped ? clamped.data() : nullptr;
    task.beta = variant.beta ? beta.data() : nullptr;
    task.chains = chains;
    task.key = kKey;
    task.first_chain = 0xfffffff0u - static_cast<uint32_t>(chains);
    task.first_step = 0xffffffffu;
    task.first_side = variant.first_side;
    task.half_steps = variant.half_steps;
    task.grey = variant.grey;
    task.threshold = threshold.distribution;
    task.shift = &layer.shift;
    const auto after = [&](const auto& run) {
      States states(layer, chains, variant.grey);
      task.state[kVisible] = states.of_side[kVisible].data();
      task.state[kHidden] = states.of_side[kHidden].data();
      run();
      return states;
    };
    const States expected = after([&] { one_by_one(task); });
    const std::string what = variant.name + ", " + std::to_string(visible) + " x " +
                             std::to_string(hidden) + ", " + std::to_string(chains) + " chains";
    for (const auto& [name, kernels] : all) {
      const GibbsKernels& of_tier = *kernels;
      const States found = after([&] { host_gibbs(task, of_tier, 2); });
      check(found.same(expected), name + ": " + what);
    }
    const States tiles = after([&] { gibbs_half_steps_on_host(task, false, 3); });
    check(tiles.same(expected), "CUDA tiles: " + what);
    const States split = after([&] { gibbs_half_steps_on_host(task, true, 3); });
    check(split.same(expected), "CUDA split: " + what);
    if (variant.grey) continue;
    for (const auto& [bits, each] : {std::pair<int, int>{0, 8}, {2, 16}, {4, 32}}) {
      const int size_bits = bits;
      const int of_cluster = each;
      const States clusters = after([&] { gibbs_clusters_on_host(task, size_bits, of_cluster); });
      check(clusters.same(expected), "CUDA clusters: " + what);
    }
  }
}

void test_quantize(const NamedKernels& tier) {
  for (const auto& [visible, hidden] : {std::pair<int64_t, int64_t>{1, 1}, {3, 50}, {300, 19}}) {
    for (const float scale : {1e-3f, 1.0f, 3e4f}) {
      const TestLayer expected(visible, hidden, scale, baseline_gibbs_kernels());
      const TestLayer found(visible, hidden, scale, *tier.kernels);
      check(found.same(expected), tier.name + ": quantised layer");
    }
  }
}

void test_statistics(const NamedKernels& tier) {
  for (const auto& [visible, hidden] : {std::pair<int64_t, int64_t>{1, 1}, {70, 65}, {3, 700}}) {
    constexpr int64_t kChains = 300;
    const TestLayer layer(visible, hidden, 1.0f, *tier.kernels);
    const States states(layer, kChains, false);
    std::vector<int32_t> out(static_cast<size_t>(visible * hidden), 5);
    std::vector<int64_t> visible_sums(static_cast<size_t>(visible));
    std::vector<int64_t> hidden_sums(static_cast<size_t>(hidden));
    StatisticsTask task{};
    StatisticsTerm& term = task.term[0];
    term.visible = states.of_side[0].data();
    term.hidden = states.of_side[1].data();
    term.hidden_stride = hidden;
    term.chains = kChains;
    term.weight = -1;
    term.visible_sums = visible_sums.data();
    term.hidden_sums = hidden_sums.data();
    task.terms = 1;
    task.units[0] = visible;
    task.units[1] = hidden;
    task.out = out.data();
    task.accumulate = 1;
    host_statistics(task, tier.kernels->statistics, 2);
    bool same = true;
    for (int64_t i = 0; i < visible; ++i) {
      for (int64_t j = 0; j < hidden; ++j) {
        int32_t sum = 5;
        for (int64_t c = 0; c < kChains; ++c) {
          sum -= states.of_side[0][static_cast<size_t>(c * visible + i)] *
                 states.of_side[1][static_cast<size_t>(c * hidden + j)];
        }
        same &= out[static_cast<size_t>(i * hidden + j)] == sum;
      }
    }
    check(same, tier.name + ": statistics");
  }
}

std::vector<double> log_weights(const NamedKernels& tier, int64_t visible, int64_t hidden) {
  constexpr int64_t kChains = 21;
  const TestLayer layer(visible, hidden, 1.0f, *tier.kernels);
  const LoweredDistribution threshold =
      lower_logistic(0.0, power_of_two(layer.shift), DType::kFloat32);
  States states(layer, kChains, false);
  const std::vector<int32_t> base(static_cast<size_t>(padded(visible)), 100000);
  std::vector<int32_t> fields(static_cast<size_t>(kChains * hidden));
  std::vector<double> out(static_cast<size_t>(kChains));
  const std::vector<int32_t> betas = {0, kBetaOne / 3, kBetaOne / 2, kBetaOne};
  AisTask task{};
  for (int s : {kVisible, kHidden}) {
    task.gibbs.side[s] = layer.side(s);
    task.gibbs.state[s] = states.of_side[s].data();
    task.gibbs.spin[s] = 1;
  }
  task.gibbs.chains = kChains;
  task.gibbs.key = kKey;
  task.gibbs.threshold = threshold.distribution;
  task.gibbs.base = base.data();
  task.gibbs.fields = fields.data();
  task.betas = betas.data();
  task.count = static_cast<int64_t>(betas.size());
  task.from_base = 1;
  task.shift = layer.shift;
  task.log_weights = out.data();
  host_ais(task, *tier.kernels, 2);
  return out;
}

}  // namespace
}  // namespace torch_init

int main() {
  using namespace torch_init;
  const std::vector<NamedKernels> all = implementations();
  for (const NamedKernels& tier : all) {
    test_quantize(tier);
    test_statistics(tier);
    for (const int64_t hidden : {1, 8, 600}) {
      check(log_weights(tier, 13, hidden) == log_weights(all[0], 13, hidden),
            tier.name + ": log-weights");
    }
  }
  test_chains(all, 1, 1, 1, 1.0f);
  test_chains(all, 5, 3, 17, 1.0f);
  test_chains(all, 67, 130, 9, 0.5f);
  test_chains(all, 66, 129, 50, 0.5f);
  test_chains(all, 33, 18, 200, 2.0f);
  test_chains(all, 2000, 2, 10, 3e4f);  // sums as large as they may be
  return verdict();
}
