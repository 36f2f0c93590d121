// SPDX-License-Identifier: Apache-2.0
//
// The native module. It knows addresses, sizes and streams, not tensors: torch_init/_ops.py, its
// only caller, reads those from tensors and has checked every argument before it calls.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/tiers.h"
#include "distributions/lower.h"
#include "fill/device_blob.h"
#include "fill/fill_cuda.h"
#include "fill/host_fill.h"
#include "orthogonal/householder.h"
#include "portable/float_environment.h"
#include "python/bindings.h"
#include "random/key.h"

namespace py = pybind11;

namespace torch_init {

std::atomic<const Tier*> active_tier{&best_tier()};

Region region_of(const py::handle& sizes, const py::handle& strides,
                 const py::handle& index_strides, const py::handle& first_index) {
  const auto size = sizes.cast<std::vector<int64_t>>();
  const auto stride = strides.cast<std::vector<int64_t>>();
  const auto index_stride = index_strides.cast<std::vector<int64_t>>();
  Region region;
  if (!make_region(static_cast<int>(size.size()), size.data(), stride.data(), index_stride.data(),
                   first_index.cast<uint64_t>(), &region)) {
    throw std::invalid_argument("torch_init: a tensor's layout has more than " +
                                std::to_string(kMaxDims) + " dimensions that cannot be joined");
  }
  return region;
}

void check_cuda(const char* error) {
  if (error != nullptr) throw std::runtime_error(std::string("torch_init: CUDA: ") + error);
}

namespace {

std::vector<std::string> cpu_isas() {
  std::vector<std::string> names;
  for (const char* name : {"baseline", "avx2", "avx512"}) {
    if (find_tier(name) != nullptr) names.emplace_back(name);
  }
  return names;
}

void set_cpu_isa(const std::string& name) {
  const Tier* tier = find_tier(name.c_str());
  if (tier == nullptr) {
    std::string message = "torch_init: TORCH_INIT_CPU_ISA: got '" + name + "', expected one of";
    for (const std::string& known : cpu_isas()) message += " " + known;
    throw std::invalid_argument(message + " (what was built and this processor supports)");
  }
  active_tier = tier;
}

// (kind, number, ...), as torch_init/distributions.py writes them.
LoweredDistribution lower(const py::tuple& spec, DType dtype) {
  const DefaultFloatEnvironment environment;
  const std::string kind = spec[0].cast<std::string>();
  const auto number = [&](size_t i) { return spec[i].cast<double>(); };
  if (kind == "normal" || kind == "truncated_normal") {
    const double mean = number(1), std = number(2), lower = number(3), upper = number(4);
    const double low = number(5), high = number(6);
    const py::gil_scoped_release release;  // fitting a table takes up to 30 ms
    return lower_truncated_normal(mean, std, lower, upper, low, high, dtype);
  }
  if (kind == "uniform") return lower_uniform(number(1), number(2), dtype);
  if (kind == "constant") return lower_constant(number(1));
  if (kind == "two_point") return lower_two_point(number(1), number(2), number(3));
  if (kind == "logistic") return lower_logistic(number(1), number(2), dtype);
  if (kind == "bits") return lower_bits();
  throw std::invalid_argument("torch_init: unknown distribution '" + kind + "'");
}

// Tasks lowered once, filled as often as wanted. The memory they point to is the caller's.
class FillPlan {
 public:
  // A task: (address, dtype, sizes, strides, index strides, first index, key, distribution).
  explicit FillPlan(const std::vector<py::tuple>& tasks) {
    tasks_.reserve(tasks.size());
    for (const py::tuple& task : tasks) add(task);
    tiles_ = total_tiles(tasks_.data(), tasks_.size());
  }

  void run_on_host(int max_threads) const {
    host_fill(tasks_.data(), tasks_.size(), *active_tier.load()->fill, max_threads);
  }

  // The CUDA kernel's body, run by the host on `blocks` blocks of threads.
  void run_cuda_body_on_host(int blocks) const {
    std::vector<uint64_t> blob(blob_size() / sizeof(uint64_t));
    write_device_blob(tasks_.data(), tasks_.size(), reinterpret_cast<uint64_t>(blob.data()),
                      blob.data());
    cuda_body_on_host(list_in_blob(blob.data(), tasks_.size()), blocks);
  }

#if defined(TORCH_INIT_HAVE_CUDA)
  bool fits_in_arguments() const {
    return tasks_.size() == 1 && tasks_[0].distribution.table_f64.rows == nullptr;
  }
  // Puts what run_on_cuda reads at `address` on the device.
  void upload(int device, uint64_t stream, uint64_t address) const {
    std::vector<uint64_t> blob(blob_size() / sizeof(uint64_t));
    write_device_blob(tasks_.data(), tasks_.size(), address, blob.data());
    check_cuda(cuda_upload(blob.data(), blob_size(), reinterpret_cast<void*>(address), device,
                           reinterpret_cast<void*>(stream)));
  }
  void run_on_cuda(int device, uint64_t stream, uint64_t blob) const {
    void* const on_stream = reinterpret_cast<void*>(stream);
    check_cuda(blob == 0 ? cuda_fill_one(tasks_[0], device, on_stream)
                         : cuda_fill_many(reinterpret_cast<const void*>(blob), tasks_.size(),
                                          tiles_, device, on_stream));
  }
#endif
  size_t blob_size() const { return device_blob_size(tasks_.data(), tasks_.size()); }

 private:
  void add(const py::tuple& spec) {
    FillTask task{};
    task.data = reinterpret_cast<void*>(spec[0].cast<uint64_t>());
    task.dtype = static_cast<DType>(spec[1].cast<int>());
    task.region = region_of(spec[2], spec[3], spec[4], spec[5]);
    task.key = spec[6].cast<uint64_t>();
    LoweredDistribution lowered = lower(spec[7].cast<py::tuple>(), task.dtype);
    task.distribution = lowered.distribution;
    tasks_.push_back(task);
    lowered_.push_back(std::move(lowered));
  }

  std::vector<FillTask> tasks_;
  std::vector<LoweredDistribution> lowered_;  // keeps the tables alive
  int64_t tiles_ = 0;
};

uint64_t fold_key_from_bytes(uint64_t seed, const py::bytes& digest) {
  const std::string bytes = digest;
  uint32_t words[4];
  if (bytes.size() != sizeof words) throw std::invalid_argument("torch_init: digest: 16 bytes");
  for (size_t i = 0; i < 4; ++i) {
    words[i] = 0;
    for (size_t j = 0; j < 4; ++j) {
      words[i] |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[4 * i + j])) << (8 * j);
    }
  }
  return fold_key(seed, words);
}

template <typename Scalar>
void orthonormalize(uint64_t address, int64_t rows, int64_t cols, int max_threads) {
  orthonormalize_columns(reinterpret_cast<Scalar*>(address), rows, cols, max_threads,
                         *active_tier.load()->orthogonal);
}

void orthonormalize_columns_of(uint64_t address, DType dtype, bool is_complex, int64_t rows,
                               int64_t cols, int max_threads) {
  const DefaultFloatEnvironment environment;
  const bool is_double = dtype == DType::kFloat64;
  if (is_complex) {
    (is_double ? orthonormalize<Complex<double>>
               : orthonormalize<Complex<float>>)(address, rows, cols, max_threads);
  } else {
    (is_double ? orthonormalize<double> : orthonormalize<float>)(address, rows, cols, max_threads);
  }
}

py::dict build_info() {
  py::dict info;
  info["version"] = TORCH_INIT_VERSION;
  info["git_revision"] = TORCH_INIT_GIT_REVISION;
  info["cuda_archs"] = TORCH_INIT_CUDA_ARCHS;
  info["compiler"] = TORCH_INIT_COMPILER;
  return info;
}

PYBIND11_MODULE(_C, m) {
  const auto release_gil = py::call_guard<py::gil_scoped_release>();
  auto plan = py::class_<FillPlan>(m, "FillPlan", py::module_local())
                  .def(py::init<const std::vector<py::tuple>&>())
                  .def("run_on_host", &FillPlan::run_on_host, release_gil)
                  .def("run_cuda_body_on_host", &FillPlan::run_cuda_body_on_host, release_gil);
#if defined(TORCH_INIT_HAVE_CUDA)
  plan.def("fits_in_arguments", &FillPlan::fits_in_arguments)
      .def("blob_size", &FillPlan::blob_size)
      .def("upload", &FillPlan::upload)
      .def("run_on_cuda", &FillPlan::run_on_cuda, release_gil);
  m.def("cuda_device_count", &cuda_device_count);
#else
  m.def("cuda_device_count", [] { return 0; });
#endif
  m.def(
      "orthonormalize_columns",
      [](uint64_t address, int dtype, bool is_complex, int64_t rows, int64_t cols, int threads) {
        orthonormalize_columns_of(address, static_cast<DType>(dtype), is_complex, rows, cols,
                                  threads);
      },
      release_gil);
  bind_gibbs(m);
  bind_gibbs_training(m);
  bind_moments(m);
  m.def("fold_key", &fold_key_from_bytes);
  m.def("cpu_isa", [] { return active_tier.load()->name; });
  m.def("cpu_isas", &cpu_isas);
  m.def("set_cpu_isa", &set_cpu_isa);
  m.def("build_info", &build_info);
  const char* name = std::getenv("TORCH_INIT_CPU_ISA");
  if (name != nullptr && *name != '\0') set_cpu_isa(name);
}

}  // namespace
}  // namespace torch_init
