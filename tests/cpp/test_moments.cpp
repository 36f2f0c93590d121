// SPDX-License-Identifier: Apache-2.0
//
// Reading a span of elements: each tier against the baseline, bit for bit, sums included, and the
// baseline against elements read one by one. Python tests compare with NumPy; here every read is at
// the very end of its memory, where a sanitizer sees one that goes too far.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "cpu/tiers.h"
#include "moments/flow_cuda.h"
#include "moments/measure_cuda.h"
#include "random/philox.h"

namespace torch_init {
namespace {

constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat64,      DType::kBFloat16,
                             DType::kFloat16, DType::kFloat8E4M3FN, DType::kFloat8E5M2};
// None, less than a row of 64 bytes, rows and some over, pages and some over.
constexpr int64_t kCounts[] = {0, 1, 7, 16, 63, 64, 65, 1000, 4096, 5001, 9999};
// Within a word and after it, within a row, at a page's end, past 2^32.
constexpr uint64_t kFirst[] = {0, 1, 3, 5, 1021, 4095, 0xfffffff9u, 0x123456789abcu};

// Random bits on the heap, of just this size. With `finite`, every exponent is a middling one.
std::unique_ptr<char[]> random_memory(DType dtype, int64_t count, bool finite) {
  const int64_t size = element_size(dtype);
  const size_t bytes = static_cast<size_t>(count * size);
  std::unique_ptr<char[]> memory(new char[bytes]);
  for (size_t i = 0; i < bytes; ++i) {
    const PhiloxBlock block = stream_block(42, i / 16);
    memory[i] = static_cast<char>(block.word[i / 4 % 4] >> (8 * (i % 4)));
  }
  if (finite) {
    for (size_t i = static_cast<size_t>(size) - 1; i < bytes; i += static_cast<size_t>(size)) {
      memory[i] = static_cast<char>((memory[i] & 0x87) | 0x30);
    }
  }
  return memory;
}

bool same(const Moments& a, const Moments& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

bool same_integers(Moments a, Moments b) {
  a.sum = b.sum = a.sum_squares = b.sum_squares = 0.0;
  return same(a, b);
}

template <typename Format, Reading kReading>
Moments one_by_one(const char* data, uint64_t index, int64_t count, const Limits& limits) {
  using Code = typename Format::Code;
  Tally<Format, kReading> tally;
  for (int64_t i = 0; i < count; ++i) {
    Code bits;
    std::memcpy(&bits, data + i * element_size(Format::kDType), sizeof bits);
    tally.add(bits, limits);
    if (kReading == Reading::kFingerprint) {
      const auto code = static_cast<typename UnsignedOf<Code>::Type>(bits);
      tally.add_fingerprint(fingerprint_term(index + static_cast<uint64_t>(i), code));
    }
  }
  Moments moments = no_moments();
  tally.add_to(count, &moments);
  return moments;
}

void test_spans(const Tier& tier, DType dtype, bool finite) {
  const std::string what = std::string(tier.name) + ", dtype " +
                           std::to_string(static_cast<int>(dtype)) + (finite ? ", finite" : "");
  const MomentsKernels& baseline = baseline_moments_kernels();
  const Limits limits = {-90, 90};
  for (const int64_t count : kCounts) {
    const std::unique_ptr<char[]> memory = random_memory(dtype, count, finite);
    for (const uint64_t first : kFirst) {
      Moments expected = no_moments();
      Moments found = no_moments();
      baseline.fingerprint(dtype, memory.get(), first, count, &expected);
      tier.moments->fingerprint(dtype, memory.get(), first, count, &found);
      check(same(found, expected), what + ": fingerprint as baseline");
      with_format(dtype, [&](auto format) {
        expected = one_by_one<decltype(format), Reading::kFingerprint>(memory.get(), first, count,
                                                                       Limits{});
      });
      check(same_integers(found, expected), what + ": fingerprint as one by one");
    }
    if (element_size(dtype) == 1) continue;
    Moments expected = no_moments();
    Moments found = no_moments();
    baseline.flow(dtype, memory.get(), count, limits, &expected);
    tier.moments->flow(dtype, memory.get(), count, limits, &found);
    check(same(found, expected), what + ": flow as baseline");
    with_flow_format(dtype, [&](auto format) {
      expected = one_by_one<decltype(format), Reading::kFlow>(memory.get(), 0, count, limits);
    });
    check(same_integers(found, expected), what + ": flow as one by one");
  }
}

// The CUDA kernels' bodies against the host's, for a dense region and one that must be gathered.
void test_bodies(DType dtype) {
  constexpr int64_t kRows = 300;
  constexpr int64_t kColumns = 701;
  const std::unique_ptr<char[]> memory = random_memory(dtype, kRows * kColumns, false);
  const int64_t size[] = {kColumns, kRows};
  const int64_t stride[] = {1, kColumns};
  const int64_t index_stride[] = {kRows, 1};
  const int64_t dense_size[] = {kRows * kColumns};
  const int64_t dense_stride[] = {1};
  std::vector<MeasureTask> tasks(3, {memory.get(), dtype, {}});
  make_region(2, size, stride, index_stride, 5, &tasks[0].region);
  make_region(1, dense_size, dense_stride, dense_stride, 0, &tasks[1].region);
  make_region(1, dense_size, dense_stride, dense_stride, uint64_t{1} << 40, &tasks[2].region);

  std::vector<Moments> expected(tasks.size());
  std::vector<Moments> found(tasks.size());
  host_measure(tasks.data(), tasks.size(), baseline_moments_kernels(), 1, expected.data());
  std::vector<uint64_t> blob(measure_blob_size(tasks.size()) / sizeof(uint64_t));
  write_measure_blob(tasks.data(), tasks.size(), blob.data());
  measure_body_on_host(measure_list_in_blob(blob.data(), tasks.size()), 3, found.data());
  for (size_t i = 0; i < tasks.size(); ++i) {
    check(same_integers(found[i], expected[i]),
          "CUDA body, dtype " + std::to_string(static_cast<int>(dtype)));
  }
}

struct FlowTotals {
  std::vector<double> row = std::vector<double>(kFlowColumns + kBins);
  std::vector<double> features;
};

// The tiers' totals of a matrix against the baseline's, bit for bit, and the CUDA kernels' bodies
// against them in everything that is counted.
void test_flow(DType dtype, int64_t rows, int64_t columns, bool transposed) {
  const std::unique_ptr<char[]> memory = random_memory(dtype, rows * columns, false);
  const int64_t size[] = {rows, columns};
  const int64_t stride[] = {transposed ? 1 : columns, transposed ? rows : 1};
  const float scale = 3.0f;
  const auto totals_of = [&](const auto& run) {
    FlowTotals totals;
    totals.features.resize(static_cast<size_t>(3 * columns));
    FlowTask task = {};
    task.data = memory.get();
    task.dtype = dtype;
    task.row = totals.row.data();
    task.features.totals = totals.features.data();
    task.histogram = true;
    task.order = 1;
    task.scale = &scale;
    check(set_layout(2, size, stride, -0.5, 1e300, &task), "a matrix has a layout");
    run(task);
    return totals;
  };
  const auto on = [](const MomentsKernels& kernels, int threads) {
    return [&kernels, threads](const FlowTask& task) { host_accumulate(task, kernels, threads); };
  };
  const std::string what = "flow, dtype " + std::to_string(static_cast<int>(dtype));
  const auto same_bits = [](const std::vector<double>& a, const std::vector<double>& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
  };
  const FlowTotals expected = totals_of(on(baseline_moments_kernels(), 1));
  for (const char* name : {"baseline", "avx2", "avx512"}) {
    const Tier* tier = find_tier(name);
    if (tier == nullptr) continue;
    const FlowTotals found = totals_of(on(*tier->moments, 3));
    check(same_bits(found.row, expected.row), what + ": row, " + name);
    check(same_bits(found.features, expected.features), what + ": features, " + name);
  }
  FlowTotals body = totals_of([](const FlowTask& task) { accumulate_body_on_host(task, 3); });
  for (const int rounded : {kSum, kSumSquares}) body.row[rounded] = expected.row[rounded];
  check(same_bits(body.row, expected.row), what + ": row, CUDA body");
  body.features.resize(static_cast<size_t>(columns));  // the positive elements
  check(std::equal(body.features.begin(), body.features.end(), expected.features.begin()),
        what + ": features, CUDA body");
}

}  // namespace
}  // namespace torch_init

int main() {
  using namespace torch_init;
  for (const char* name : {"baseline", "avx2", "avx512"}) {
    const Tier* tier = find_tier(name);
    if (tier == nullptr) {
      std::printf("skipped: %s is not built or not on this processor\n", name);
      continue;
    }
    for (const DType dtype : kDTypes) {
      test_spans(*tier, dtype, false);
      test_spans(*tier, dtype, true);
    }
  }
  for (const DType dtype : kDTypes) test_bodies(dtype);
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kFloat16}) {
    for (const bool transposed : {false, true}) {
      test_flow(dtype, 1300, 77, transposed);
      test_flow(dtype, 3, 1, transposed);
      test_flow(dtype, 0, 5, transposed);
      test_flow(dtype, 1100, 1000, transposed);
    }
  }
  return verdict();
}
