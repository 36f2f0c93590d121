// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <vector>

#include "distributions/special_functions.h"
#include "gibbs/ais.h"
#include "gibbs/host_gibbs.h"

namespace torch_init {
namespace {

// All inverse temperatures, for some of the chains.
class AisRun {
 public:
  AisRun(const AisTask& task, const GibbsKernels& kernels, int64_t first, int64_t count,
         void* scratch)
      : task_(task),
        kernels_(kernels),
        first_(first),
        count_(count),
        scratch_(scratch),
        beta_(static_cast<size_t>(count)) {
    const SideWeights& side = task.gibbs.side[kVisible];
    for (int64_t i = 0; i < side.units; ++i) {
      bias_.push_back(side.bias[i] - task.gibbs.base[i]);
      bias_sum_ += bias_.back();
    }
  }

  void run() {
    std::fill_n(task_.log_weights + first_, count_, 0.0);
    if (task_.from_base != 0 && task_.count > 0) sample(kVisible, 0);
    for (int64_t k = 1; k < task_.count; ++k) {
      sample(kHidden, k);  // and writes the fields, which do not depend on beta
      for (int64_t c = first_; c < first_ + count_; ++c) task_.log_weights[c] += log_ratio(c, k);
      if (k + 1 < task_.count) sample(kVisible, k);
    }
  }

 private:
  void sample(int side, int64_t k) {
    GibbsTask step = task_.gibbs;
    std::fill(beta_.begin(), beta_.end(), task_.betas[k]);
    step.beta = beta_.data() - first_;
    step.first_side = side;
    step.half_steps = 1;
    step.first_step += static_cast<uint64_t>(k);
    kernels_.run(step, first_, count_, scratch_);
  }

  // log p(v, betas[k]) - log p(v, betas[k - 1]) of chain c's visible units.
  double log_ratio(int64_t c, int64_t k) const {
    const GibbsTask& gibbs = task_.gibbs;
    const int64_t hidden = gibbs.side[kHidden].units;
    const int32_t* const fields = gibbs.fields + c * hidden;
    const double unit = power_of_two(-kBetaBits) * power_of_two(-task_.shift);
    const double scale[2] = {task_.betas[k] * unit, task_.betas[k - 1] * unit};
    double of_products = 0.0;
    int64_t of_fields = 0;
    for (int64_t j = 0; j < hidden; j += kProductFields) {
      const SoftplusSums sums =
          kernels_.softplus_sums(fields + j, std::min(kProductFields, hidden - j), scale);
      of_products += portable_log(sums.products[0]) - portable_log(sums.products[1]);
      of_fields += sums.positive;
    }
    double linear = static_cast<double>(of_fields + visible_energy(c));
    if (gibbs.spin[kHidden] != 0) {
      // A spin sees twice the field x: log(2 cosh x) = log(1 + exp(2 x)) - x.
      int64_t sum = 0;
      for (int64_t j = 0; j < hidden; ++j) sum += fields[j];
      linear -= 0.5 * static_cast<double>(sum);
    }
    return (scale[0] - scale[1]) * linear + of_products;
  }

  // What the biases, less the base's, add to -energy.
  int64_t visible_energy(int64_t c) const {
    const GibbsTask& gibbs = task_.gibbs;
    const int64_t units = gibbs.side[kVisible].units;
    const uint8_t* const states = gibbs.state[kVisible] + c * units;
    const int64_t on = kernels_.sum_of_on(states, bias_.data(), units);
    return gibbs.spin[kVisible] != 0 ? 2 * on - bias_sum_ : on;
  }

  const AisTask& task_;
  const GibbsKernels& kernels_;
  const int64_t first_;
  const int64_t count_;
  void* const scratch_;
  std::vector<int32_t> beta_;
  std::vector<int32_t> bias_;  // of the visible units, less the base's; magnitudes below 2^31
  int64_t bias_sum_ = 0;
};

}  // namespace

void host_ais(const AisTask& task, const GibbsKernels& kernels, int max_threads) {
  GibbsTask all = task.gibbs;
  all.half_steps = 2 * task.count;
  in_pieces(all, kernels, max_threads, [&](int64_t first, int64_t count, void* scratch) {
    AisRun(task, kernels, first, count, scratch).run();
  });
}

}  // namespace torch_init
