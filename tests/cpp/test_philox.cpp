// SPDX-License-Identifier: Apache-2.0
//
// Philox4x32-10 against Random123's known answers, all four words of counter and result; the
// tiers' kernels, which know counters (block, block, 0, 0) only, where the answers have such.
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

#include "check.h"
#include "engine.h"
#include "random/key.h"
#include "random/philox.h"

namespace torch_init {
namespace {

struct Vector {
  uint32_t counter[4];
  uint32_t key[2];
  uint32_t result[4];
};

std::vector<Vector> known_answers() {
  std::ifstream file(TORCH_INIT_TEST_DATA "/philox4x32_10.kat");
  std::vector<Vector> vectors;
  for (std::string line; std::getline(file, line);) {
    if (line[0] == '#') continue;
    std::istringstream fields(line);
    Vector v{};
    fields >> std::hex;
    for (uint32_t& word : v.counter) fields >> word;
    for (uint32_t& word : v.key) fields >> word;
    for (uint32_t& word : v.result) fields >> word;
    check(!fields.fail(), "a line of ten words: " + line);
    vectors.push_back(v);
  }
  return vectors;
}

uint64_t joined(const uint32_t key[2]) { return key[0] | (uint64_t{key[1]} << 32); }

void test_known_answers() {
  const std::vector<Vector> vectors = known_answers();
  check(vectors.size() == 3, "three vectors are read");
  for (const Vector& v : vectors) {
    const PhiloxBlock counter = {{v.counter[0], v.counter[1], v.counter[2], v.counter[3]}};
    const PhiloxBlock block = philox4x32_10(counter, joined(v.key));
    for (int i = 0; i < 4; ++i) check(block.word[i] == v.result[i], "known answer");
    const uint64_t folded = fold_key(joined(v.key), v.counter);
    check(folded == joined(v.result), "a key is the first half of the answer");
  }
}

void test_first_block(const std::string& name, const CpuKernels& kernels) {
  const Vector zeros = known_answers()[0];
  uint32_t words[4];
  kernels.words(0, 0, 1, words);
  for (int i = 0; i < 4; ++i) check(words[i] == zeros.result[i], name + ": known answer");
}

void test_rare_words(const std::string& name, const CpuKernels& kernels) {
  for (const RareWord& rare : rare_words()) {
    uint32_t words[4];
    kernels.words(kRareKey, rare.index / 4, 1, words);
    check(words[rare.index % 4] == rare.word, name + ": word " + std::to_string(rare.index));
  }
}

}  // namespace
}  // namespace torch_init

int main() {
  using namespace torch_init;
  test_known_answers();
  std::vector<Implementation> all = vector_implementations();
  all.push_back({"baseline", &baseline_kernels()});
  for (const Implementation& implementation : all) {
    test_first_block(implementation.name, *implementation.kernels);
    test_rare_words(implementation.name, *implementation.kernels);
  }
  check(rare_words().size() == 243, "rare words are read");
  return verdict();
}
