// SPDX-License-Identifier: Apache-2.0
//
// What an update of a machine on a GPU consists of besides its chains; each function also as
// NAME_with_cuda_body_on_host. Knows addresses only, as gibbs.cpp does; 0 is for nothing.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <utility>
#include <vector>

#include "gibbs/training_cuda.h"
#include "python/ascend_task.h"
#include "python/bindings.h"

namespace py = pybind11;

namespace torch_init {
namespace {

template <typename Pointer>
Pointer pointer(uint64_t address) {
  return reinterpret_cast<Pointer>(address);
}

// Addresses: weight, visible and hidden bias, the layer's six arrays (gibbs.cpp), the visible and
// the hidden side's limbs, scale, room.
using QuantizeAddresses = std::array<uint64_t, 13>;
using Units = std::array<int64_t, 2>;

template <typename Real>
QuantizeTask<Real> quantize_task(const QuantizeAddresses& at, const Units& units) {
  const auto ints = [&](size_t i) { return pointer<int32_t*>(at[i]); };
  QuantizeTask<Real> task{};
  task.layer = {pointer<const Real*>(at[0]),
                {pointer<const Real*>(at[1]), pointer<const Real*>(at[2])},
                {units[0], units[1]}};
  task.out = {ints(3), ints(4), {ints(5), ints(6)}, {ints(7), ints(8)}};
  task.limbs[kVisible] = pointer<uint8_t*>(at[9]);
  task.limbs[kHidden] = pointer<uint8_t*>(at[10]);
  task.scale = pointer<FoundScale*>(at[11]);
  task.room = pointer<void*>(at[12]);
  return task;
}

void quantize_with_cuda_body_on_host(const QuantizeAddresses& at, bool is_double,
                                     const Units& units) {
  if (is_double) {
    quantize_body_on_host(quantize_task<double>(at, units));
  } else {
    quantize_body_on_host(quantize_task<float>(at, units));
  }
}

#if defined(TORCH_INIT_HAVE_CUDA)
void quantize_on_cuda(const QuantizeAddresses& at, bool is_double, const Units& units, int device,
                      uint64_t stream) {
  void* const on = pointer<void*>(stream);
  check_cuda(is_double ? cuda_quantize(quantize_task<double>(at, units), device, on)
                       : cuda_quantize(quantize_task<float>(at, units), device, on));
}
#endif

int64_t room_for_quantizing(int64_t visible, int64_t hidden) {
  return quantize_room_size(visible, hidden);
}

// Of each term addresses: visible bytes, hidden bytes or int16 means; numbers: chains, weight.
using TermAddresses = std::pair<std::array<uint64_t, 2>, std::array<int64_t, 2>>;

ProductTasks product_tasks(const std::vector<TermAddresses>& terms, const Units& units,
                           uint64_t out, uint64_t sums, bool means, bool wide, bool accumulate) {
  ProductTasks tasks{};
  for (const auto& [at, numbers] : terms) {
    ProductTask& task = tasks.term[tasks.terms];
    task.visible = pointer<const uint8_t*>(at[0]);
    task.hidden = pointer<const void*>(at[1]);
    task.out = pointer<void*>(out);
    task.chains = numbers[0];
    task.units[0] = units[0];
    task.units[1] = units[1];
    task.means = means;
    task.wide = wide;
    task.accumulate = accumulate || tasks.terms > 0;
    task.weight = numbers[1];
    ++tasks.terms;
  }
  tasks.sums = pointer<int64_t*>(sums);
  return tasks;
}

void statistics_with_cuda_body_on_host(const std::vector<TermAddresses>& terms, const Units& units,
                                       uint64_t out, uint64_t sums, bool means, bool wide,
                                       bool accumulate) {
  statistics_body_on_host(product_tasks(terms, units, out, sums, means, wide, accumulate));
}

#if defined(TORCH_INIT_HAVE_CUDA)
void statistics_on_cuda(const std::vector<TermAddresses>& terms, const Units& units, uint64_t out,
                        uint64_t sums, bool means, bool wide, bool accumulate, int device,
                        uint64_t stream) {
  check_cuda(cuda_statistics(product_tasks(terms, units, out, sums, means, wide, accumulate),
                             device, pointer<void*>(stream)));
}
#endif

// Addresses: sums, means, differences, visible and hidden offsets; counts: the data's visible and
// hidden ones, then the model's; offsets: what they keep, and what they take of the means.
DifferencesTask differences_task(const std::array<uint64_t, 5>& at, const Units& units,
                                 const std::array<double, 4>& counts,
                                 const std::array<bool, 2>& spins,
                                 const std::array<float, 2>& offsets) {
  DifferencesTask task{};
  task.sums = pointer<const int64_t*>(at[0]);
  task.mean = pointer<float*>(at[1]);
  task.difference = pointer<float*>(at[2]);
  for (size_t side = 0; side < 2; ++side) {
    task.count[0][side] = counts[side];
    task.count[1][side] = counts[2 + side];
    task.spin[side] = spins[side];
    task.units[side] = units[side];
    task.offset[side] = pointer<float*>(at[3 + side]);
  }
  task.keep = offsets[0];
  task.rate = offsets[1];
  return task;
}

void differences_with_cuda_body_on_host(const std::array<uint64_t, 5>& at, const Units& units,
                                        const std::array<double, 4>& counts,
                                        const std::array<bool, 2>& spins,
                                        const std::array<float, 2>& offsets) {
  differences_body_on_host(differences_task(at, units, counts, spins, offsets));
}

// A step of biases: addresses of the visible ones, their velocity, and of the hidden side's; rates.
using BiasMoves = std::pair<std::array<uint64_t, 4>, std::array<float, 2>>;

ParametersTask parameters_task(const AscendAddresses& at, const BiasMoves& moves,
                               const Units& units, int pair_kind,
                               const std::array<float, 5>& numbers) {
  ParametersTask task{ascend_task(at, units, pair_kind, numbers), {}};
  for (size_t side = 0; side < 2; ++side) {
    task.bias[side] = {pointer<float*>(moves.first[2 * side]),
                       pointer<float*>(moves.first[2 * side + 1]), moves.second[side]};
  }
  return task;
}

void ascend_with_cuda_body_on_host(const AscendAddresses& at, const BiasMoves& moves,
                                   const Units& units, int pair_kind,
                                   const std::array<float, 5>& numbers) {
  ascend_body_on_host(parameters_task(at, moves, units, pair_kind, numbers));
}

#if defined(TORCH_INIT_HAVE_CUDA)
void differences_on_cuda(const std::array<uint64_t, 5>& at, const Units& units,
                         const std::array<double, 4>& counts, const std::array<bool, 2>& spins,
                         const std::array<float, 2>& offsets, int device, uint64_t stream) {
  check_cuda(cuda_differences(differences_task(at, units, counts, spins, offsets), device,
                              pointer<void*>(stream)));
}

void ascend_on_cuda(const AscendAddresses& at, const BiasMoves& moves, const Units& units,
                    int pair_kind, const std::array<float, 5>& numbers, int device,
                    uint64_t stream) {
  check_cuda(cuda_ascend(parameters_task(at, moves, units, pair_kind, numbers), device,
                         pointer<void*>(stream)));
}
#endif

}  // namespace

void bind_gibbs_training(py::module_& module) {
  module.def("quantize_room_size", &room_for_quantizing);
  module.def("quantize_with_cuda_body_on_host", &quantize_with_cuda_body_on_host);
  module.def("statistics_with_cuda_body_on_host", &statistics_with_cuda_body_on_host);
  module.def("differences_with_cuda_body_on_host", &differences_with_cuda_body_on_host);
  module.def("ascend_with_cuda_body_on_host", &ascend_with_cuda_body_on_host);
#if defined(TORCH_INIT_HAVE_CUDA)
  module.def("ascend_on_cuda", &ascend_on_cuda);
  module.def("differences_on_cuda", &differences_on_cuda);
  module.def("quantize_on_cuda", &quantize_on_cuda);
  module.def("statistics_on_cuda", &statistics_on_cuda);
#endif
}

}  // namespace torch_init
