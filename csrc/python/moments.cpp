// SPDX-License-Identifier: Apache-2.0
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "moments/bins.h"
#include "moments/flow_cuda.h"
#include "moments/flow_row.h"
#include "moments/measure.h"
#include "moments/measure_cuda.h"
#include "python/bindings.h"

namespace py = pybind11;

namespace torch_init {
namespace {

// Regions to measure. The memory they point to is the caller's. Every `out` is the address of an
// array of Moments, one for each region.
class MeasurePlan {
 public:
  // A task: (address, dtype, sizes, strides, index strides, first index).
  explicit MeasurePlan(const std::vector<py::tuple>& tasks) {
    tasks_.reserve(tasks.size());
    for (const py::tuple& task : tasks) {
      tasks_.push_back({reinterpret_cast<const void*>(task[0].cast<uint64_t>()),
                        static_cast<DType>(task[1].cast<int>()),
                        region_of(task[2], task[3], task[4], task[5])});
    }
  }

  void run_on_host(int max_threads, uint64_t out) const {
    host_measure(tasks_.data(), tasks_.size(), *active_tier.load()->moments, max_threads,
                 reinterpret_cast<Moments*>(out));
  }

  // The CUDA kernels' bodies, run by the host on `blocks` blocks of threads.
  void run_cuda_body_on_host(int blocks, uint64_t out) const {
    std::vector<uint64_t> blob(blob_size() / sizeof(uint64_t));
    write_measure_blob(tasks_.data(), tasks_.size(), blob.data());
    measure_body_on_host(measure_list_in_blob(blob.data(), tasks_.size()), blocks,
                         reinterpret_cast<Moments*>(out));
  }

  size_t blob_size() const { return measure_blob_size(tasks_.size()); }
  py::bytes blob() const {
    std::string bytes(blob_size(), '\0');
    write_measure_blob(tasks_.data(), tasks_.size(), bytes.data());
    return bytes;
  }
  int64_t chunks() const {
    int64_t chunks = 0;
    for (const MeasureTask& task : tasks_) chunks += chunk_count(task.region);
    return chunks;
  }

#if defined(TORCH_INIT_HAVE_CUDA)
  // Everything lies on the device: the blob, and room for the moments of each chunk.
  void run_on_cuda(int device, uint64_t stream, uint64_t blob, uint64_t of_chunk,
                   uint64_t out) const {
    check_cuda(cuda_measure(reinterpret_cast<const void*>(blob), tasks_.size(), chunks(),
                            reinterpret_cast<Moments*>(of_chunk), reinterpret_cast<Moments*>(out),
                            device, reinterpret_cast<void*>(stream)));
  }
#endif

 private:
  std::vector<MeasureTask> tasks_;
};

// One tensor's statistics on their way to a row of totals. All memory is the caller's.
class Accumulation {
 public:
  Accumulation(uint64_t address, int dtype, const std::vector<int64_t>& sizes,
               const std::vector<int64_t>& strides, uint64_t row, bool histogram, uint64_t features,
               double low, double high, int64_t order, uint64_t scale, uint64_t gate) {
    task_.data = reinterpret_cast<const void*>(address);
    task_.dtype = static_cast<DType>(dtype);
    task_.features.totals = reinterpret_cast<double*>(features);
    task_.row = reinterpret_cast<double*>(row);
    task_.histogram = histogram;
    task_.order = order;
    task_.scale = reinterpret_cast<const float*>(scale);
    task_.gate = reinterpret_cast<const uint8_t*>(gate);
    if (!set_layout(static_cast<int>(sizes.size()), sizes.data(), strides.data(), low, high,
                    &task_)) {
      throw std::invalid_argument("torch_init: a tensor's layout has more than " +
                                  std::to_string(kMaxDims) + " dimensions that cannot be joined");
    }
  }

  void run_on_host(int max_threads) const {
    host_accumulate(task_, *active_tier.load()->moments, max_threads);
  }
  void run_cuda_body_on_host(int blocks) const { accumulate_body_on_host(task_, blocks); }

  size_t scratch_size() const { return flow_scratch_size(task_); }
#if defined(TORCH_INIT_HAVE_CUDA)
  void run_on_cuda(int device, uint64_t stream, uint64_t scratch) const {
    check_cuda(cuda_accumulate(task_, reinterpret_cast<void*>(scratch), device,
                               reinterpret_cast<void*>(stream)));
  }
#endif

 private:
  FlowTask task_ = {};
};

// The same of several tensors at once, whose memory is dense, without features.
class AccumulationBatch {
 public:
  AccumulationBatch(const std::vector<uint64_t>& addresses, const std::vector<int>& dtypes,
                    const std::vector<int64_t>& counts, const std::vector<uint64_t>& rows,
                    bool histogram, int64_t order, uint64_t scale, uint64_t gate) {
    const int64_t dense = 1;
    for (size_t i = 0; i < addresses.size(); ++i) {
      FlowTask task = {};
      task.data = reinterpret_cast<const void*>(addresses[i]);
      task.dtype = static_cast<DType>(dtypes.at(i));
      task.row = reinterpret_cast<double*>(rows.at(i));
      task.histogram = histogram;
      task.order = order + static_cast<int64_t>(i);
      task.scale = reinterpret_cast<const float*>(scale);
      task.gate = reinterpret_cast<const uint8_t*>(gate);
      const double infinity = std::numeric_limits<double>::infinity();
      set_layout(1, &counts.at(i), &dense, -infinity, infinity, &task);
      tasks_.push_back(task);
    }
  }

  void run_on_host(int max_threads) const {
    for (const FlowTask& task : tasks_) {
      host_accumulate(task, *active_tier.load()->moments, max_threads);
    }
  }

  // One tensor after another uses the same scratch memory.
  size_t scratch_size() const {
    size_t size = 0;
    for (const FlowTask& task : tasks_) size = std::max(size, flow_scratch_size(task));
    return size;
  }
#if defined(TORCH_INIT_HAVE_CUDA)
  void run_on_cuda(int device, uint64_t stream, uint64_t scratch) const {
    for (const FlowTask& task : tasks_) {
      check_cuda(cuda_accumulate(task, reinterpret_cast<void*>(scratch), device,
                                 reinterpret_cast<void*>(stream)));
    }
  }
#endif

 private:
  std::vector<FlowTask> tasks_;
};

}  // namespace

void bind_moments(py::module_& module) {
  const auto release_gil = py::call_guard<py::gil_scoped_release>();
  auto plan = py::class_<MeasurePlan>(module, "MeasurePlan", py::module_local())
                  .def(py::init<const std::vector<py::tuple>&>())
                  .def("run_on_host", &MeasurePlan::run_on_host, release_gil)
                  .def("run_cuda_body_on_host", &MeasurePlan::run_cuda_body_on_host, release_gil)
                  .def("blob", &MeasurePlan::blob)
                  .def("chunks", &MeasurePlan::chunks);
  auto accumulation =
      py::class_<Accumulation>(module, "Accumulation", py::module_local())
          .def(py::init<uint64_t, int, const std::vector<int64_t>&, const std::vector<int64_t>&,
                        uint64_t, bool, uint64_t, double, double, int64_t, uint64_t, uint64_t>())
          .def("run_on_host", &Accumulation::run_on_host, release_gil)
          .def("run_cuda_body_on_host", &Accumulation::run_cuda_body_on_host, release_gil)
          .def("scratch_size", &Accumulation::scratch_size);
  auto batch = py::class_<AccumulationBatch>(module, "AccumulationBatch", py::module_local())
                   .def(py::init<const std::vector<uint64_t>&, const std::vector<int>&,
                                 const std::vector<int64_t>&, const std::vector<uint64_t>&, bool,
                                 int64_t, uint64_t, uint64_t>())
                   .def("run_on_host", &AccumulationBatch::run_on_host, release_gil)
                   .def("scratch_size", &AccumulationBatch::scratch_size);
#if defined(TORCH_INIT_HAVE_CUDA)
  batch.def("run_on_cuda", &AccumulationBatch::run_on_cuda, release_gil);
  plan.def("run_on_cuda", &MeasurePlan::run_on_cuda, release_gil);
  accumulation.def("run_on_cuda", &Accumulation::run_on_cuda, release_gil);
#endif
  // What a row of totals holds where: Python has no numbers of its own.
  module.attr("FLOW_ROW") = std::map<std::string, int>{
      {"calls", kCalls},
      {"count", kCount},
      {"sum", kSum},
      {"squares", kSumSquares},
      {"absmax", kAbsMax},
      {"zeros", kZeros},
      {"at_or_below", kAtOrBelow},
      {"at_or_above", kAtOrAbove},
      {"nonfinite", kNotFiniteColumn},
      {"first_nonfinite", kFirstNotFinite},
      {"subnormal", kSubnormals},
      {"histogram", kFlowColumns},
  };
  module.attr("FLOW_BINS") = kBins;
  module.attr("FLOW_LOWEST_EXPONENT") = kLowestBinExponent;
}

}  // namespace torch_init
