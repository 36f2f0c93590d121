// SPDX-License-Identifier: Apache-2.0
//
// Gibbs chains. Like module.cpp this knows addresses only: torch_init/_ops_gibbs.py, its only
// caller, keeps what they point to alive.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "distributions/lower.h"
#include "gibbs/ais.h"
#include "gibbs/gibbs_cuda.h"
#include "gibbs/host_gibbs.h"
#include "gibbs/quantize.h"
#include "gibbs/state_bytes.h"
#include "python/ascend_task.h"
#include "python/bindings.h"

namespace py = pybind11;

namespace torch_init {
namespace {

// (by_visible, by_hidden, visible bias, hidden bias, visible sums, hidden sums)
using LayerAddresses = std::array<uint64_t, 6>;

template <typename Pointer>
Pointer pointer(uint64_t address) {
  return reinterpret_cast<Pointer>(address);
}

std::optional<int> quantize(uint64_t weight, uint64_t visible_bias, uint64_t hidden_bias,
                            bool is_double, int64_t visible, int64_t hidden, int max_threads,
                            const LayerAddresses& out) {
  const QuantizedLayer layer = {pointer<int32_t*>(out[0]),
                                pointer<int32_t*>(out[1]),
                                {pointer<int32_t*>(out[2]), pointer<int32_t*>(out[3])},
                                {pointer<int32_t*>(out[4]), pointer<int32_t*>(out[5])}};
  int shift = 0;
  const auto run = [&](auto real) {
    using Real = decltype(real);
    const Layer<Real> from = {
        pointer<const Real*>(weight),
        {pointer<const Real*>(visible_bias), pointer<const Real*>(hidden_bias)},
        {visible, hidden}};
    return quantize_layer(from, *active_tier.load()->gibbs, max_threads, layer, &shift);
  };
  if (!(is_double ? run(double{}) : run(float{}))) return std::nullopt;
  return shift;
}

// Addresses: visible bytes or int16 fine levels, hidden bytes or int16 means, sums of visible and
// hidden units; numbers: chains, weight, whether means, whether grey, whether fine.
using TermAddresses = std::pair<std::array<uint64_t, 4>, std::array<int64_t, 5>>;

void statistics(const std::vector<TermAddresses>& terms, const std::array<int64_t, 2>& units,
                uint64_t out, bool wide, bool accumulate, int max_threads) {
  StatisticsTask task{};
  for (const auto& [at, numbers] : terms) {
    StatisticsTerm& term = task.term[task.terms++];
    term.visible = pointer<const uint8_t*>(at[0]);
    term.hidden = pointer<const void*>(at[1]);
    term.visible_sums = pointer<int64_t*>(at[2]);
    term.hidden_sums = pointer<int64_t*>(at[3]);
    term.chains = numbers[0];
    term.weight = numbers[1];
    term.hidden_kind = numbers[2] != 0 ? HiddenKind::kMeans : HiddenKind::kStates;
    term.grey = numbers[3] != 0;
    if (numbers[4] != 0) term.fine = pointer<const int16_t*>(at[0]);
    term.hidden_stride = units[1];
  }
  task.units[0] = units[0];
  task.units[1] = units[1];
  task.out = pointer<void*>(out);
  task.wide = wide;
  task.accumulate = accumulate;
  host_statistics(task, active_tier.load()->gibbs->statistics, max_threads);
}

bool write_state_bytes(uint64_t states, int64_t count, float off, uint64_t out) {
  return state_bytes(pointer<const float*>(states), count, off, pointer<uint8_t*>(out));
}

void ascend(const AscendAddresses& at, const std::array<int64_t, 2>& units, int pair_kind,
            const std::array<float, 5>& numbers, int max_threads) {
  host_ascend(ascend_task(at, units, pair_kind, numbers), active_tier.load()->gibbs->ascend,
              max_threads);
}

int64_t size_of_limbs(int64_t units, int64_t sources) { return limbs_size(units, sources); }

LimbTask limb_task(uint64_t by_unit, int64_t units, int64_t sources, uint64_t out) {
  return {pointer<const int32_t*>(by_unit), units, sources, pointer<uint8_t*>(out)};
}

void make_limbs_with_cuda_body_on_host(uint64_t by_unit, int64_t units, int64_t sources,
                                       uint64_t out) {
  make_limbs_on_host(limb_task(by_unit, units, sources, out));
}

// A task: (kind, fields, out, std, chains, units, categories, key, first chain, step, side).
struct LoweredFloatTask {
  explicit LoweredFloatTask(const py::tuple& from) {
    task.unit = static_cast<FloatUnit>(from[0].cast<int>());
    task.field = pointer<const float*>(from[1].cast<uint64_t>());
    task.states = pointer<uint8_t*>(from[2].cast<uint64_t>());
    task.values = pointer<float*>(from[2].cast<uint64_t>());
    task.std = pointer<const float*>(from[3].cast<uint64_t>());
    task.chains = from[4].cast<int64_t>();
    task.units = from[5].cast<int64_t>();
    task.categories = from[6].cast<int64_t>();
    task.key = from[7].cast<uint64_t>();
    task.first_chain = from[8].cast<uint32_t>();
    task.step = from[9].cast<uint64_t>();
    task.side = from[10].cast<int32_t>();
    constexpr double kInfinity = __builtin_huge_val();
    if (task.unit == FloatUnit::kBernoulli) {
      table = lower_logistic(0.0, 1.0, DType::kFloat32);
    } else {
      table = lower_truncated_normal(0.0, 1.0, -kInfinity, kInfinity, -kInfinity, kInfinity,
                                     DType::kFloat32);
    }
    task.table = table.distribution;
  }

  FloatTask task{};
  LoweredDistribution table;  // keeps the table alive
};

void sample_float_on_host(const py::tuple& from, int max_threads) {
  const LoweredFloatTask lowered(from);
  const py::gil_scoped_release release;
  host_sample_float(lowered.task, *active_tier.load()->gibbs, max_threads);
}

void sample_float_with_cuda_body_on_host(const py::tuple& from, int blocks) {
  sample_float_body_on_host(LoweredFloatTask(from).task, blocks);
}

#if defined(TORCH_INIT_HAVE_CUDA)
void sample_float_on_cuda(const py::tuple& from, int device, uint64_t stream) {
  check_cuda(cuda_sample_float(LoweredFloatTask(from).task, device, pointer<void*>(stream)));
}
#endif

// What is sampled, lowered once.
class GibbsPlan {
 public:
  GibbsPlan(const LayerAddresses& layer, int64_t visible, int64_t hidden, int shift)
      : shift_(shift), threshold_(lower_logistic(0.0, power_of_two(shift), DType::kFloat32)) {
    const auto ints = [&](size_t i) { return pointer<const int32_t*>(layer[i]); };
    task_.side[kVisible] = {visible,         hidden,  ints(0), ints(1), padded(hidden),
                            padded(visible), ints(2), ints(4), nullptr};
    task_.side[kHidden] = {hidden,         visible, ints(1), ints(0), padded(visible),
                           padded(hidden), ints(3), ints(5), nullptr};
    task_.threshold = threshold_.distribution;
    task_.scale = static_cast<float>(power_of_two(-shift));
    task_.shift = &shift_;
  }
  GibbsPlan(const GibbsPlan&) = delete;
  GibbsPlan& operator=(const GibbsPlan&) = delete;

  // Addresses are 0 where there is nothing.
  void set_run(bool spin_visible, bool spin_hidden, uint64_t visible, uint64_t hidden,
               uint64_t clamped, uint64_t beta, uint64_t visible_beta, uint64_t hidden_beta,
               bool grey) {
    task_.spin[kVisible] = spin_visible;
    task_.spin[kHidden] = spin_hidden;
    task_.state[kVisible] = pointer<uint8_t*>(visible);
    task_.state[kHidden] = pointer<uint8_t*>(hidden);
    task_.clamped = pointer<const uint8_t*>(clamped);
    task_.beta = pointer<const int32_t*>(beta);
    task_.unit_beta[kVisible] = pointer<const int32_t*>(visible_beta);
    task_.unit_beta[kHidden] = pointer<const int32_t*>(hidden_beta);
    task_.grey = grey;
  }
  // int16 [chains][hidden]: where the last half-step writes the hidden units' means.
  void set_means(uint64_t means, bool means_only) {
    task_.means = pointer<int16_t*>(means);
    task_.means_only = means_only;
  }
  // int16 [chains][visible]: what the first half-step reads instead of visible states.
  void set_fine(uint64_t fine) { task_.fine = pointer<const int16_t*>(fine); }
  void set_words(uint64_t key, uint32_t first_chain, uint64_t first_step) {
    task_.key = key;
    task_.first_chain = first_chain;
    task_.first_step = first_step;
  }

  void run_on_host(int64_t chains, int first_side, int64_t half_steps, int max_threads) {
    set_extent(chains, first_side, half_steps);
    host_gibbs(task_, *active_tier.load()->gibbs, max_threads);
  }

  // What chains on a GPU read instead of the weights, and of the shift that the plan was made with.
  void set_limbs(uint64_t visible, uint64_t hidden, uint64_t shift) {
    if (shift != 0) task_.shift = pointer<const int32_t*>(shift);
    task_.side[kVisible].limbs = pointer<const uint8_t*>(visible);
    task_.side[kHidden].limbs = pointer<const uint8_t*>(hidden);
  }

  // The CUDA kernels' bodies, run by the host: half-steps as tiles or split.
  void run_cuda_half_steps_on_host(int64_t chains, int first_side, int64_t half_steps, bool split,
                                   int blocks) {
    set_extent(chains, first_side, half_steps);
    gibbs_half_steps_on_host(task_, split, blocks);
  }
  // The same in clusters of 2^size_bits blocks that take 8, 16 or 32 chains each.
  void run_cuda_clusters_on_host(int64_t chains, int first_side, int64_t half_steps, int size_bits,
                                 int chains_of_cluster) {
    set_extent(chains, first_side, half_steps);
    gibbs_clusters_on_host(task_, size_bits, chains_of_cluster);
  }

#if defined(TORCH_INIT_HAVE_CUDA)
  int64_t workspace_size(int64_t chains) {
    set_extent(chains, 0, 0);
    return gibbs_workspace_size(task_);
  }
  void run_on_cuda(int64_t chains, int first_side, int64_t half_steps, uint64_t workspace, int path,
                   int device, uint64_t stream) {
    set_extent(chains, first_side, half_steps);
    check_cuda(cuda_gibbs(task_, pointer<void*>(workspace), static_cast<GibbsPath>(path), device,
                          pointer<void*>(stream)));
  }
#endif

  // Addresses: betas int32 [count], base int32 [padded visible units], fields int32
  // [chains][hidden], log weights float64 [chains].
  void run_ais(int64_t chains, uint64_t betas, int64_t count, uint64_t base, uint64_t fields,
               bool from_base, uint64_t log_weights, int max_threads) {
    set_extent(chains, kHidden, 0);
    task_.base = pointer<const int32_t*>(base);
    task_.fields = pointer<int32_t*>(fields);
    host_ais({task_, pointer<const int32_t*>(betas), count, from_base, shift_,
              pointer<double*>(log_weights)},
             *active_tier.load()->gibbs, max_threads);
  }

 private:
  void set_extent(int64_t chains, int first_side, int64_t half_steps) {
    task_.chains = chains;
    task_.first_side = first_side;
    task_.half_steps = half_steps;
  }

  int32_t shift_;
  LoweredDistribution threshold_;  // keeps the table alive
  GibbsTask task_{};
};

}  // namespace

void bind_gibbs(py::module_& module) {
  const auto release_gil = py::call_guard<py::gil_scoped_release>();
  module.def("quantize_layer", &quantize, release_gil);
  module.def("limbs_size", &size_of_limbs);
  module.def("make_limbs_with_cuda_body_on_host", &make_limbs_with_cuda_body_on_host, release_gil);
  module.def("statistics", &statistics, release_gil);
  module.def("state_bytes", &write_state_bytes, release_gil);
  module.def("ascend", &ascend, release_gil);
  module.def("sample_float", &sample_float_on_host);
  module.def("sample_float_with_cuda_body_on_host", &sample_float_with_cuda_body_on_host);
  auto plan =
      py::class_<GibbsPlan>(module, "GibbsPlan", py::module_local())
          .def(py::init<const LayerAddresses&, int64_t, int64_t, int>())
          .def("set_run", &GibbsPlan::set_run)
          .def("set_means", &GibbsPlan::set_means)
          .def("set_fine", &GibbsPlan::set_fine)
          .def("set_words", &GibbsPlan::set_words)
          .def("set_limbs", &GibbsPlan::set_limbs)
          .def("run_on_host", &GibbsPlan::run_on_host, release_gil)
          .def("run_cuda_half_steps_on_host", &GibbsPlan::run_cuda_half_steps_on_host, release_gil)
          .def("run_cuda_clusters_on_host", &GibbsPlan::run_cuda_clusters_on_host, release_gil)
          .def("run_ais", &GibbsPlan::run_ais, release_gil);
#if defined(TORCH_INIT_HAVE_CUDA)
  module.def("sample_float_on_cuda", &sample_float_on_cuda);
  plan.def("workspace_size", &GibbsPlan::workspace_size)
      .def("run_on_cuda", &GibbsPlan::run_on_cuda, release_gil);
#endif
}

}  // namespace torch_init
