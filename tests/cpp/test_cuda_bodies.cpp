// SPDX-License-Identifier: Apache-2.0
//
// CUDA kernels' bodies, run by the host, where the other tests' sizes do not lead: many whole tiles
// in a row, also across the block number 2^32, and units with floating-point fields. Buffers end
// where the data does, so that AddressSanitizer sees what reaches past it.
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "cpu/tiers.h"
#include "engine.h"
#include "fill/device_blob.h"
#include "fill/fill_cuda.h"
#include "fill/host_fill.h"
#include "gibbs/gibbs_cuda.h"
#include "gibbs/host_gibbs.h"

namespace torch_init {
namespace {

constexpr uint64_t kKey = 99;

FillTask row_of_elements(DType dtype, const Distribution& d, int64_t count, uint64_t first,
                         void* data) {
  FillTask task{};
  task.data = data;
  task.key = kKey;
  task.dtype = dtype;
  task.distribution = d;
  const int64_t stride = 1;
  check(make_region(1, &count, &stride, &stride, first, &task.region), "a row is a region");
  return task;
}

void compare_tiles(DType dtype, const Distribution& d, uint64_t first, const std::string& what) {
  const int64_t count = 5 * 4 * kTileGroups + 3;
  const size_t bytes = static_cast<size_t>(count * element_size(dtype));
  std::vector<unsigned char> expected(bytes), found(bytes);
  const FillTask wanted = row_of_elements(dtype, d, count, first, expected.data());
  host_fill(&wanted, 1, baseline_kernels(), 1);
  const FillTask task = row_of_elements(dtype, d, count, first, found.data());
  for (const int blocks : {1, 2}) {
    std::memset(found.data(), 0x5a, bytes);
    std::vector<uint64_t> blob((device_blob_size(&task, 1) + 7) / 8);
    write_device_blob(&task, 1, reinterpret_cast<uint64_t>(blob.data()), blob.data());
    cuda_body_on_host(list_in_blob(blob.data(), 1), blocks);
    check(found == expected, what + ", " + std::to_string(blocks) + " blocks");
  }
}

void compare_float_units(FloatUnit unit, int64_t categories) {
  const int64_t chains = 7, units = 13;
  const LoweredDistribution table =
      unit == FloatUnit::kBernoulli
          ? lower_logistic(0.0, 1.0, DType::kFloat32)
          : lower_truncated_normal(0.0, 1.0, -__builtin_huge_val(), __builtin_huge_val(),
                                   -__builtin_huge_val(), __builtin_huge_val(), DType::kFloat32);
  const size_t fields = static_cast<size_t>(chains * units * (categories > 0 ? categories : 1));
  const bool in_bytes = unit == FloatUnit::kBernoulli || unit == FloatUnit::kSoftmax;
  std::vector<float> field(fields);
  for (size_t i = 0; i < fields; ++i) {
    field[i] = static_cast<float>(stream_word(kKey, i)) * 0x1p-30f - 2.0f;
  }
  const size_t size = in_bytes ? fields : fields * sizeof(float);
  std::vector<unsigned char> expected(size), found(size);
  FloatTask task{};
  task.unit = unit;
  task.field = field.data();
  task.chains = chains;
  task.units = units;
  task.categories = categories;
  task.key = kKey;
  task.first_chain = 5;
  task.step = 3;
  task.table = table.distribution;
  const auto into = [&](std::vector<unsigned char>* out) {
    task.states = out->data();
    task.values = reinterpret_cast<float*>(out->data());
  };
  into(&expected);
  host_sample_float(task, baseline_gibbs_kernels(), 1);
  into(&found);
  for (const int blocks : {1, 3, 100}) {
    std::memset(found.data(), 0x5a, size);
    sample_float_body_on_host(task, blocks);
    check(found == expected, "unit " + std::to_string(static_cast<int>(unit)) + ", " +
                                 std::to_string(blocks) + " blocks");
  }
}

}  // namespace
}  // namespace torch_init

int main() {
  using namespace torch_init;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16,
                            DType::kFloat8E4M3FN, DType::kFloat8E5M2}) {
    std::vector<NamedDistribution> all = distributions(dtype);
    all.push_back({"constant", lower_constant(0.3)});
    for (const NamedDistribution& d : all) {
      for (const uint64_t first : {uint64_t{0}, (uint64_t{1} << 34) - 9000}) {
        const std::string what = "dtype " + std::to_string(static_cast<int>(dtype)) + ", " + d.name;
        compare_tiles(dtype, d.lowered.distribution, first, what);
      }
    }
  }
  compare_float_units(FloatUnit::kBernoulli, 0);
  compare_float_units(FloatUnit::kGaussian, 0);
  compare_float_units(FloatUnit::kRelu, 0);
  compare_float_units(FloatUnit::kSoftmax, 4);
  return verdict();
}
