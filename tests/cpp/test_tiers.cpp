// SPDX-License-Identifier: Apache-2.0
//
// The vector tiers' kernels against the baseline's, bit for bit. Python tests compare whole fills;
// here are the kernels alone, so that a tier that this processor lacks can take part, emulated.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "check.h"
#include "distributions/rounding.h"
#include "engine.h"

namespace torch_init {
namespace {

constexpr uint64_t kKey = 0x0123456789abcdefu;
// The last ones end in, or start from, a block number with another high half.
constexpr uint64_t kFirstBlocks[] = {0, 5, 0xfffffff9u, 0x1fffffff0u};
// None, less than a register of any tier, whole ones, and some over.
constexpr size_t kBlockCounts[] = {0, 1, 7, 8, 16, 17, 100};

// `count` elements aligned for streaming stores, with a guard behind them.
template <typename Element>
class Buffer {
 public:
  explicit Buffer(size_t count)
      : size_(count * sizeof(Element)), memory_(size_ + 2 * kStreamAlignment, kGuard) {
    const uintptr_t over = reinterpret_cast<uintptr_t>(memory_.data()) % kStreamAlignment;
    first_ = memory_.data() + (kStreamAlignment - over);
  }

  Element* data() { return reinterpret_cast<Element*>(first_); }
  bool same_bits(const Buffer& other) const { return std::equal(begin(), end(), other.begin()); }
  bool guard_is_intact() const {
    return std::all_of(end(), memory_.data() + memory_.size(),
                       [](unsigned char byte) { return byte == kGuard; });
  }

 private:
  static constexpr unsigned char kGuard = 0x5a;
  const unsigned char* begin() const { return first_; }
  const unsigned char* end() const { return first_ + size_; }

  size_t size_;
  std::vector<unsigned char> memory_;
  unsigned char* first_;
};

// Calls both kernels, as `call(kernels, out)`, and compares what they wrote.
template <typename Element, typename Call>
void compare(const Implementation& tier, size_t count, const std::string& what, const Call& call) {
  Buffer<Element> expected(count);
  Buffer<Element> found(count);
  call(baseline_kernels(), expected.data());
  call(*tier.kernels, found.data());
  check(found.same_bits(expected), tier.name + ": " + what);
  check(found.guard_is_intact(), tier.name + ": " + what + " writes past its end");
}

template <typename Test>
void for_each_range(const Test& test) {
  for (const uint64_t first : kFirstBlocks) {
    for (const size_t blocks : kBlockCounts) test(first, blocks);
  }
}

void test_words(const Implementation& tier) {
  for_each_range([&](uint64_t first, size_t blocks) {
    compare<uint32_t>(tier, 4 * blocks, "words", [&](const CpuKernels& kernels, uint32_t* out) {
      kernels.words(kKey, first, blocks, out);
    });
  });
}

void test_float32(const Implementation& tier) {
  for (const NamedDistribution& d : distributions(DType::kFloat32)) {
    const auto values = [&](uint64_t key, uint64_t first, size_t blocks, bool stream) {
      compare<float>(tier, 4 * blocks, d.name + " in float32",
                     [&](const CpuKernels& kernels, float* out) {
                       kernels.values_f32(d.lowered.distribution, key, first, blocks, out, stream);
                     });
    };
    for_each_range([&](uint64_t first, size_t blocks) {
      values(kKey, first, blocks, false);
      values(kKey, first, blocks, true);
    });
    for (const RareWord& rare : rare_words()) values(kRareKey, rare.index / 4, 1, false);
  }
}

void test_float64(const Implementation& tier) {
  for (const NamedDistribution& d : distributions(DType::kFloat64)) {
    for_each_range([&](uint64_t first, size_t blocks) {
      compare<double>(tier, 2 * blocks, d.name + " in float64",
                      [&](const CpuKernels& kernels, double* out) {
                        kernels.values_f64(d.lowered.distribution, kKey, first, blocks, out);
                      });
    });
  }
}

// Floats of every size and sign, and both infinities: every 40,009th bit pattern that is no NaN.
std::vector<float> all_kinds_of_floats() {
  std::vector<float> floats = {bits_float(0x7f800000u), bits_float(0xff800000u)};
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 40009) {
    const float x = bits_float(static_cast<uint32_t>(bits));
    if (x == x) floats.push_back(x);
  }
  return floats;
}

// The values halfway between two neighbours of bfloat16, float16 and float8, and those beside.
std::vector<float> ties() {
  std::vector<float> floats;
  for (const uint32_t dropped_bits : {16u, 13u, 20u, 21u}) {
    for (uint32_t i = 0; i < 4096; ++i) {
      const uint32_t tie =
          ((i * 0x9e3779b9u) >> dropped_bits << dropped_bits) | (uint32_t{1} << (dropped_bits - 1));
      for (const uint32_t bits : {tie - 1, tie, tie + 1}) {
        const float x = bits_float(bits);
        if (x == x) floats.push_back(x);
      }
    }
  }
  return floats;
}

template <typename Element>
void test_rounding(const Implementation& tier, DType dtype, const std::vector<float>& in) {
  for (const size_t count : {in.size(), size_t{1}, size_t{31}, size_t{33}}) {
    for (const bool stream : {false, true}) {
      compare<Element>(tier, count, "rounding to dtype " + std::to_string(static_cast<int>(dtype)),
                       [&](const CpuKernels& kernels, Element* out) {
                         kernels.round(dtype, in.data(), count, out, stream);
                       });
    }
  }
}

void test_rounding(const Implementation& tier) {
  for (const std::vector<float>& in : {all_kinds_of_floats(), ties()}) {
    test_rounding<uint16_t>(tier, DType::kBFloat16, in);
    test_rounding<uint16_t>(tier, DType::kFloat16, in);
    test_rounding<uint8_t>(tier, DType::kFloat8E4M3FN, in);
    test_rounding<uint8_t>(tier, DType::kFloat8E5M2, in);
  }
}

}  // namespace
}  // namespace torch_init

int main() {
  using namespace torch_init;
  for (const Implementation& tier : vector_implementations()) {
    test_words(tier);
    test_float32(tier);
    test_float64(tier);
    test_rounding(tier);
    std::printf("compared: %s\n", tier.name.c_str());
  }
  return verdict();
}
