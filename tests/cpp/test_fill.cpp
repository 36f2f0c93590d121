// SPDX-License-Identifier: Apache-2.0
//
// Regions: the host launcher and the CUDA kernel's body against the definition of a value, element
// by element. Every buffer ends where its region does, so that AddressSanitizer sees a write past
// it; Python tests go through more layouts.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "check.h"
#include "distributions/rounding.h"
#include "engine.h"
#include "fill/device_blob.h"
#include "fill/fill_cuda.h"
#include "fill/host_fill.h"
#include "random/philox.h"

namespace torch_init {
namespace {

constexpr uint64_t kKey = 99;
constexpr unsigned char kUntouched = 0x5a;

// FNV-1a (Fowler, Noll & Vo) of all bytes that this test expects, in order, on any processor. They
// change with the stream version, or with the lists of layouts, dtypes and distributions.
constexpr uint64_t kChecksum = 0x40f098f0be46cf63u;

struct Layout {
  std::string name;
  std::vector<int64_t> size;
  std::vector<int64_t> stride;
  std::vector<int64_t> index_stride;
  uint64_t first_index;
};

const std::vector<Layout> kLayouts = {
    {"scalar", {}, {}, {}, 0},
    {"nothing", {3, 0, 2}, {0, 2, 1}, {0, 2, 1}, 0},
    {"one", {1}, {1}, {1}, 2},
    {"three", {3}, {1}, {1}, 0},
    {"many tiles", {5001}, {1}, {1}, 0},
    {"inside a block", {4099}, {1}, {1}, 7},
    {"stride 2", {301}, {2}, {1}, 1},
    {"transposed", {37, 65}, {1, 37}, {65, 1}, 0},
    {"rows apart", {23, 50}, {64, 1}, {50, 1}, 0},
    {"shard of rows", {9, 7}, {7, 1}, {100, 1}, 1234},
    {"shard of columns", {9, 7}, {1, 9}, {7, 1000}, 3},
    {"channels last", {2, 5, 4, 3}, {60, 1, 15, 5}, {60, 12, 3, 1}, 0},
    {"every other index", {701}, {1}, {2}, 0},
    {"block 2^32", {4000}, {1}, {1}, (uint64_t{1} << 34) - 2001},
    {"elements 2^33 apart", {3, 11}, {11, 1}, {int64_t{1} << 33, 1}, (uint64_t{1} << 33) - 4},
};

constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat64,      DType::kBFloat16,
                             DType::kFloat16, DType::kFloat8E4M3FN, DType::kFloat8E5M2,
                             DType::kUInt32};

// Calls visit(memory offset, logical index) for each element.
template <typename Visit>
void for_each_element(const Layout& layout, const Visit& visit) {
  int64_t count = 1;
  for (const int64_t n : layout.size) count *= n;
  for (int64_t element = 0; element < count; ++element) {
    int64_t rest = element;
    int64_t offset = 0;
    uint64_t index = layout.first_index;
    for (size_t d = layout.size.size(); d-- > 0; rest /= layout.size[d]) {
      const int64_t i = rest % layout.size[d];
      offset += i * layout.stride[d];
      index += static_cast<uint64_t>(i * layout.index_stride[d]);
    }
    visit(offset, index);
  }
}

size_t bytes_of(const Layout& layout, DType dtype) {
  int64_t end = 0;
  for_each_element(layout, [&](int64_t offset, uint64_t) { end = std::max(end, offset + 1); });
  return static_cast<size_t>(end * element_size(dtype));
}

void store_element(const Distribution& d, DType dtype, uint64_t index, void* data, int64_t at) {
  if (dtype == DType::kFloat64) {
    const uint32_t high = stream_word(kKey, 2 * index);
    const uint32_t low = stream_word(kKey, 2 * index + 1);
    static_cast<double*>(data)[at] = value_from_words(high, low, d);
  } else if (dtype == DType::kUInt32) {
    static_cast<uint32_t*>(data)[at] = stream_word(kKey, index);
  } else {
    store_rounded(dtype, data, at, value_from_word(stream_word(kKey, index), d));
  }
}

using Bytes = std::vector<unsigned char>;

Bytes expected_bytes(const Layout& layout, DType dtype, const Distribution& d) {
  Bytes bytes(bytes_of(layout, dtype), kUntouched);
  for_each_element(layout, [&](int64_t offset, uint64_t index) {
    store_element(d, dtype, index, bytes.data(), offset);
  });
  return bytes;
}

uint64_t checksum(const Bytes& bytes, uint64_t so_far) {
  for (const unsigned char byte : bytes) so_far = (so_far ^ byte) * 0x100000001b3u;
  return so_far;
}

FillTask task_of(const Layout& layout, DType dtype, const Distribution& d, void* data) {
  FillTask task{};
  task.data = data;
  task.key = kKey;
  task.dtype = dtype;
  task.distribution = d;
  check(make_region(static_cast<int>(layout.size.size()), layout.size.data(), layout.stride.data(),
                    layout.index_stride.data(), layout.first_index, &task.region),
        layout.name + " is a region");
  return task;
}

void run_cuda_body(const std::vector<FillTask>& tasks, int blocks) {
  const size_t size = device_blob_size(tasks.data(), tasks.size());
  std::vector<uint64_t> blob((size + 7) / 8);
  write_device_blob(tasks.data(), tasks.size(), reinterpret_cast<uint64_t>(blob.data()),
                    blob.data());
  cuda_body_on_host(list_in_blob(blob.data(), tasks.size()), blocks);
}

// Fills all layouts in one call and compares each with what is expected.
template <typename Run>
void compare(const std::string& what, DType dtype, const Distribution& d,
             const std::vector<Bytes>& expected, const Run& run) {
  std::vector<Bytes> memory;
  std::vector<FillTask> tasks;
  for (size_t i = 0; i < kLayouts.size(); ++i) {
    memory.emplace_back(expected[i].size(), kUntouched);
    tasks.push_back(task_of(kLayouts[i], dtype, d, memory[i].data()));
  }
  run(tasks);
  for (size_t i = 0; i < kLayouts.size(); ++i) {
    check(memory[i] == expected[i], what + ", " + kLayouts[i].name);
  }
}

// Returns the checksum of the expected bytes.
uint64_t compare_all(const std::vector<Implementation>& implementations, DType dtype,
                     const NamedDistribution& named, uint64_t so_far) {
  const Distribution& d = named.lowered.distribution;
  const std::string what = "dtype " + std::to_string(static_cast<int>(dtype)) + ", " + named.name;
  std::vector<Bytes> expected;
  for (const Layout& layout : kLayouts) {
    expected.push_back(expected_bytes(layout, dtype, d));
    so_far = checksum(expected.back(), so_far);
  }
  for (const Implementation& implementation : implementations) {
    for (const int threads : {1, 3}) {
      compare(implementation.name + ", " + what, dtype, d, expected,
              [&](const std::vector<FillTask>& tasks) {
                host_fill(tasks.data(), tasks.size(), *implementation.kernels, threads);
              });
    }
  }
  for (const int blocks : {1, 7, 500}) {
    compare("CUDA body, " + what, dtype, d, expected,
            [&](const std::vector<FillTask>& tasks) { run_cuda_body(tasks, blocks); });
  }
  return so_far;
}

}  // namespace
}  // namespace torch_init

int main() {
  using namespace torch_init;
  std::vector<Implementation> implementations = vector_implementations();
  implementations.push_back({"baseline", &baseline_kernels()});
  uint64_t sum = 0xcbf29ce484222325u;
  for (const DType dtype : kDTypes) {
    std::vector<NamedDistribution> all = distributions(dtype);
    all.push_back({"constant", lower_constant(0.3)});
    if (dtype == DType::kUInt32) all = {{"bits", lower_bits()}};
    for (const NamedDistribution& d : all) sum = compare_all(implementations, dtype, d, sum);
  }
  if (sum != kChecksum) std::printf("checksum: 0x%016llx\n", static_cast<unsigned long long>(sum));
  check(sum == kChecksum, "checksum of the expected bytes");
  return verdict();
}
