// SPDX-License-Identifier: Apache-2.0
//
// What an update on a GPU consists of, its kernels' bodies run by the host, against the baseline
// tier. Every array is of just its size, so that a sanitizer sees what is read or written beyond
// it.
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "cpu/tiers.h"
#include "gibbs/gibbs_cuda.h"
#include "gibbs/training_cuda.h"
#include "random/philox.h"

namespace torch_init {
namespace {

using Sizes = std::vector<std::pair<int64_t, int64_t>>;

const Sizes kSizes = {{1, 1}, {3, 50}, {64, 64}, {300, 19}, {65, 130}, {19, 1100}, {0, 5}, {5, 0}};

std::string text(int64_t visible, int64_t hidden) {
  return std::to_string(visible) + " x " + std::to_string(hidden);
}

// In [-scale, scale).
template <typename Real>
std::vector<Real> numbers(int64_t count, uint64_t key, Real scale) {
  std::vector<Real> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) {
    const auto word = static_cast<int32_t>(stream_word(key, i));
    values[i] = scale * static_cast<Real>(word) * static_cast<Real>(0x1p-31);
  }
  return values;
}

// Room for a layer in fixed point.
struct Integers {
  Integers(int64_t visible, int64_t hidden) {
    const int64_t units[2] = {visible, hidden};
    const auto integers = [](int64_t count) {
      return std::vector<int32_t>(static_cast<size_t>(count), -1);
    };
    by_visible = integers(visible * padded(hidden));
    by_hidden = integers(hidden * padded(visible));
    for (size_t s = 0; s < 2; ++s) {
      biases[s] = integers(padded(units[s]));
      sums[s] = integers(padded(units[s]));
      limbs[s].resize(static_cast<size_t>(limbs_size(units[s], units[1 - s])));
    }
  }

  QuantizedLayer arrays() {
    return {by_visible.data(),
            by_hidden.data(),
            {biases[0].data(), biases[1].data()},
            {sums[0].data(), sums[1].data()}};
  }

  bool operator==(const Integers& other) const {
    return by_visible == other.by_visible && by_hidden == other.by_hidden &&
           biases[0] == other.biases[0] && biases[1] == other.biases[1] &&
           sums[0] == other.sums[0] && sums[1] == other.sums[1] && limbs[0] == other.limbs[0] &&
           limbs[1] == other.limbs[1];
  }

  std::vector<int32_t> by_visible, by_hidden, biases[2], sums[2];
  std::vector<uint8_t> limbs[2];
};

template <typename Real>
void test_quantize(int64_t visible, int64_t hidden, Real scale) {
  const std::vector<Real> weight = numbers(visible * hidden, 1, scale);
  const std::vector<Real> bias[2] = {numbers(visible, 2, scale), numbers(hidden, 3, scale)};
  const Layer<Real> layer = {weight.data(), {bias[0].data(), bias[1].data()}, {visible, hidden}};
  Integers expected(visible, hidden), found(visible, hidden);
  int shift = 0;
  check(quantize_layer(layer, baseline_gibbs_kernels(), 1, expected.arrays(), &shift),
        "quantize_layer");
  make_limbs_on_host({expected.by_visible.data(), visible, hidden, expected.limbs[0].data()});
  make_limbs_on_host({expected.by_hidden.data(), hidden, visible, expected.limbs[1].data()});
  std::vector<uint64_t> room(static_cast<size_t>(quantize_room_size(visible, hidden) / 8));
  const std::vector<uint64_t> zeros = room;
  FoundScale scale_found{};
  const QuantizeTask<Real> task = {layer,
                                   found.arrays(),
                                   {found.limbs[0].data(), found.limbs[1].data()},
                                   &scale_found,
                                   room.data()};
  quantize_body_on_host(task);
  check(scale_found.shift == shift && scale_found.is_fit == 1 && found == expected,
        "quantised layer, " + text(visible, hidden));
  check(room == zeros, "the room is left as it was found");
}

// A step of a machine's parameters.
struct Step {
  Step(int64_t visible, int64_t hidden)
      : units{visible, hidden},
        weight(numbers(visible * hidden, 4, 1.0f)),
        velocity(numbers(visible * hidden, 5, 1.0f)),
        gradient(weight.size()),
        pairs(weight.size()) {
    for (size_t i = 0; i < pairs.size(); ++i) {
      pairs[i] = static_cast<int32_t>(stream_word(6, i)) / 1000;
    }
    for (size_t s = 0; s < 2; ++s) {
      offset[s] = numbers(units[s], 7 + s, 1.0f);
      difference[s] = numbers(units[s], 9 + s, 1.0f);
      factor[s] = numbers(units[s], 11 + s, 1.0f);
      shift[s].resize(static_cast<size_t>(units[s]));
    }
  }

  AscendTask task() {
    AscendTask task{};
    task.visible = units[0];
    task.hidden = units[1];
    task.pairs = pairs.data();
    task.pair_kind = PairKind::kInt32;
    task.scale = 1e-6f;
    task.visible_offset = offset[0].data();
    task.hidden_offset = offset[1].data();
    task.visible_difference = difference[0].data();
    task.hidden_difference = difference[1].data();
    task.pull = factor[1].data();
    task.visible_mean = factor[0].data();
    task.decay = 1e-3f;
    task.l1 = 1e-4f;
    task.momentum = 0.9f;
    task.rate = 0.1f;
    task.weight = weight.data();
    task.velocity = velocity.data();
    task.gradient = gradient.data();
    task.visible_shift = shift[0].data();
    task.hidden_shift = shift[1].data();
    return task;
  }

  bool operator==(const Step& other) const {
    return weight == other.weight && velocity == other.velocity && gradient == other.gradient &&
           shift[0] == other.shift[0] && shift[1] == other.shift[1];
  }

  int64_t units[2];
  std::vector<float> weight, velocity, gradient, offset[2], difference[2], factor[2], shift[2];
  std::vector<int32_t> pairs;
};

void test_ascend(int64_t visible, int64_t hidden) {
  Step expected(visible, hidden), found(visible, hidden);
  host_ascend(expected.task(), baseline_gibbs_kernels().ascend, 1);
  std::vector<float> bias[2], velocity[2];
  ParametersTask task{found.task(), {}};
  for (size_t s = 0; s < 2; ++s) {
    bias[s] = numbers(found.units[s], 13, 1.0f);
    velocity[s] = bias[s];
    task.bias[s] = {bias[s].data(), velocity[s].data(), 0.5f};
  }
  ascend_body_on_host(task);
  check(found == expected, "a step of the weights, " + text(visible, hidden));
}

// Sums of states, of means, and of the two phases' units, of arrays that end with them.
template <typename Hidden>
void test_statistics(int64_t visible, int64_t hidden, int64_t chains) {
  std::vector<uint8_t> v(static_cast<size_t>(chains * visible));
  std::vector<Hidden> h(static_cast<size_t>(chains * hidden));
  for (size_t i = 0; i < v.size(); ++i) v[i] = stream_word(14, i) & 1u;
  for (size_t i = 0; i < h.size(); ++i) h[i] = static_cast<Hidden>(stream_word(15, i) & 1u);
  std::vector<int32_t> out(static_cast<size_t>(visible * hidden));
  std::vector<int64_t> sums(static_cast<size_t>(2 * (visible + hidden)));
  ProductTasks tasks{};
  for (ProductTask& term : tasks.term) {
    term = {v.data(), h.data(),          out.data(),
            chains,   {visible, hidden}, sizeof(Hidden) > 1,
            0,        tasks.terms,       2 - 5 * tasks.terms};
    ++tasks.terms;
  }
  tasks.sums = sums.data();
  statistics_body_on_host(tasks);
  bool same = true;
  for (int64_t i = 0; i < visible + hidden; ++i) {
    int64_t sum = 0;
    for (int64_t c = 0; c < chains; ++c) {
      sum += i < visible ? v[static_cast<size_t>(c * visible + i)]
                         : h[static_cast<size_t>(c * hidden + i - visible)];
    }
    same &= sums[static_cast<size_t>(i)] == sum;
    same &= sums[static_cast<size_t>(visible + hidden + i)] == sum;
  }
  for (int64_t i = 0; i < visible; ++i) {
    for (int64_t j = 0; j < hidden; ++j) {
      int32_t sum = 0;
      for (int64_t c = 0; c < chains; ++c) {
        sum += v[static_cast<size_t>(c * visible + i)] * h[static_cast<size_t>(c * hidden + j)];
      }
      same &= out[static_cast<size_t>(i * hidden + j)] == -sum;
    }
  }
  check(same, "statistics, " + text(visible, hidden));
}

void test_differences(int64_t visible, int64_t hidden) {
  const auto units = static_cast<size_t>(visible + hidden);
  std::vector<int64_t> sums(2 * units);
  for (size_t i = 0; i < sums.size(); ++i) sums[i] = static_cast<int64_t>(i % 7);
  std::vector<float> mean(units), difference(units);
  std::vector<float> offset[2] = {std::vector<float>(static_cast<size_t>(visible)),
                                  std::vector<float>(static_cast<size_t>(hidden))};
  const DifferencesTask task = {sums.data(),
                                {{8.0, 16.0}, {8.0, 16.0}},
                                {0, 1},
                                {visible, hidden},
                                mean.data(),
                                difference.data(),
                                {offset[0].data(), offset[1].data()},
                                0.0f,
                                1.0f};
  differences_body_on_host(task);
  bool same = true;
  for (size_t i = 0; i < units; ++i) {
    const bool is_hidden = i >= static_cast<size_t>(visible);
    const auto mean_of = [&](int64_t sum) {
      const auto x = static_cast<float>(sum);
      return is_hidden ? x / 8.0f - 1.0f : x / 8.0f;
    };
    same &= mean[i] == mean_of(sums[i]);
    same &= difference[i] == mean[i] - mean_of(sums[units + i]);
    same &= mean[i] == (is_hidden ? offset[1][i - static_cast<size_t>(visible)] : offset[0][i]);
  }
  check(same, "differences, " + text(visible, hidden));
}

}  // namespace
}  // namespace torch_init

int main() {
  using namespace torch_init;
  for (const auto& [visible, hidden] : kSizes) {
    for (const float scale : {1e-3f, 1.0f, 3e4f}) {
      test_quantize<float>(visible, hidden, scale);
      test_quantize<double>(visible, hidden, double{scale});
    }
    test_ascend(visible, hidden);
    test_differences(visible, hidden);
    for (const int64_t chains : {0, 1, 37}) {
      test_statistics<uint8_t>(visible, hidden, chains);
      test_statistics<int16_t>(visible, hidden, chains);
    }
  }
  return verdict();
}
