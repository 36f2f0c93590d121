// SPDX-License-Identifier: Apache-2.0
//
// The CUDA fill kernel's inner loops against the definition, word by word: both ends and the middle
// of each half, both ends of every segment, and all codes as values to round and clamp.
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "engine.h"
#include "fill/fill_kernel.h"

namespace torch_init {
namespace {

// Words whose magnitudes lie around the ends of the segments, and many at both ends of the halves.
std::vector<uint32_t> telling_words() {
  std::vector<uint32_t> magnitudes;
  for (uint32_t i = 0; i < 5000; ++i) {
    magnitudes.push_back(i);
    magnitudes.push_back(0x7fffffffu - i);
  }
  for (int octave = 2; octave < 31; ++octave) {
    for (uint32_t quarter = 0; quarter < 4; ++quarter) {
      const uint32_t start = (1u << octave) + (quarter << (octave - 2));
      // Beyond 2^24, neighbours in float32 are up to 128 apart.
      const uint32_t step = octave > 24 ? 1u << (octave - 24) : 1u;
      for (int i = -6; i <= 6; ++i) magnitudes.push_back(start + static_cast<uint32_t>(i) * step);
    }
  }
  std::vector<uint32_t> words;
  for (const uint32_t magnitude : magnitudes) {
    words.push_back(magnitude);
    words.push_back(magnitude | 0x80000000u);
  }
  while (words.size() % 4 != 0) words.push_back(0);
  return words;
}

template <DType kDType>
void compare_words(const std::vector<uint32_t>& words, const Distribution& d,
                   const std::string& what) {
  constexpr size_t kSize = static_cast<size_t>(element_size(kDType));
  const auto staged = std::make_unique<StagedTable>();
  if (d.table_f32.rows != nullptr) {
    for (int thread = 0; thread < kFillThreads; ++thread) {
      stage_table(d.table_f32, thread, staged.get());
    }
  }
  if (!in_whole_tiles(d, kDType)) {
    return check(d.f32.low == 0.0f && d.f32.high == 0.0f, what + " is not for the inner loops");
  }
  std::vector<uint32_t> found(words.size() * kSize / 4);
  with_maker<kDType>(d, StagedRows(*staged, 3), [&](const auto& make) {
    for (size_t i = 0; i < words.size(); i += 4) {
      make(PhiloxBlock{{words[i], words[i + 1], words[i + 2], words[i + 3]}},
           found.data() + i * kSize / 4);
    }
  });
  std::vector<uint32_t> wanted(found.size());
  for (size_t i = 0; i < words.size(); ++i) {
    store_rounded(kDType, wanted.data(), static_cast<int64_t>(i), value_from_word(words[i], d));
  }
  check(found == wanted, what);
}

// Every finite code of 16 bits or less as a float32, the midpoints to the next, their neighbours.
template <DType kDType>
std::vector<float> telling_values() {
  const int shift = kDType == DType::kBFloat16 ? 16 : 13;
  std::vector<float> values;
  for (uint32_t i = 0; i <= 0x7f7fffffu >> shift; ++i) {
    for (const uint32_t bits : {i << shift, (i << shift) + (1u << (shift - 1))}) {
      for (const uint32_t near : {bits, bits + 1, bits == 0 ? bits : bits - 1}) {
        if (near > 0x7f7fffffu) continue;
        values.push_back(bits_float(near));
        values.push_back(bits_float(near | 0x80000000u));
      }
    }
  }
  while (values.size() % 4 != 0) values.push_back(0.0f);
  return values;
}

template <DType kDType, Clamp kClamp>
void compare_values(const std::vector<float>& values, double low, double high) {
  constexpr size_t kWords = static_cast<size_t>(element_size(kDType));
  ValueMap<float> map{1.0f, 0.0f, static_cast<float>(round_up(low, kDType)) + 0.0f,
                      static_cast<float>(round_down(high, kDType)) + 0.0f};
  const Pack<kDType, kClamp> pack(map);
  int different = 0;
  for (size_t i = 0; i < values.size(); i += 4) {
    float at[4];
    for (size_t j = 0; j < 4; ++j) {
      at[j] = values[i + j];
      if (map.low == 0.0f && float_bits(at[j]) == 0x80000000u) at[j] = 0.0f;  // does not get here
    }
    uint32_t found[4], wanted[4] = {};
    pack(at, found);
    for (int j = 0; j < 4; ++j) {
      const float value = kClamp == Clamp::kNone ? at[j] : clamp_value(at[j], map);
      store_rounded(kDType, wanted, j, value);
    }
    different += std::memcmp(found, wanted, 4 * kWords) != 0;
  }
  check(different == 0, "dtype " + std::to_string(static_cast<int>(kDType)) + " in [" +
                            std::to_string(low) + ", " + std::to_string(high) + "]");
}

template <DType kDType>
void compare_dtype(const std::vector<uint32_t>& words) {
  const std::string dtype = "dtype " + std::to_string(static_cast<int>(kDType)) + ", ";
  for (const NamedDistribution& d : distributions(kDType)) {
    const DistributionKind kind = d.lowered.distribution.kind;
    if (kind != DistributionKind::kUniform && kind != DistributionKind::kQuantile) continue;
    compare_words<kDType>(words, d.lowered.distribution, dtype + d.name);
  }
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const std::vector<float> values = telling_values<kDType>();
  compare_values<kDType, Clamp::kNone>(values, -infinity, infinity);
  for (const double high : {1e-7, 0.02, 0.04, 1.0, 1.99, 400.0, 1e30}) {
    if (round_down(high, kDType) == 0.0) continue;
    compare_values<kDType, Clamp::kMagnitude>(values, -high, high);
    compare_values<kDType, Clamp::kRange>(values, -high, high);
    compare_values<kDType, Clamp::kRange>(values, -0.3 * high, high);
    compare_values<kDType, Clamp::kRange>(values, 0.3 * high, infinity);
    compare_values<kDType, Clamp::kRange>(values, -infinity, -0.3 * high);
    compare_values<kDType, Clamp::kRange>(values, 0.0, high);
    compare_values<kDType, Clamp::kRange>(values, -high, 0.0);
  }
}

}  // namespace
}  // namespace torch_init

int main() {
  using namespace torch_init;
  const std::vector<uint32_t> words = telling_words();
  compare_dtype<DType::kFloat32>(words);
  compare_dtype<DType::kBFloat16>(words);
  compare_dtype<DType::kFloat16>(words);
  compare_dtype<DType::kFloat8E4M3FN>(words);
  compare_dtype<DType::kFloat8E5M2>(words);
  return verdict();
}
