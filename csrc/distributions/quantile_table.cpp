// SPDX-License-Identifier: Apache-2.0
#include "distributions/quantile_table.h"

#include <pthread.h>

#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include "distributions/special_functions.h"
#include "distributions/transform.h"
#include "distributions/truncated_normal.h"
#include "portable/float_environment.h"

namespace torch_init {
namespace {

// Chebyshev nodes cos((2k + 1) pi / 2n): interpolation there is within a few percent of minimax.
constexpr double kNodes4[4] = {0x1.d906bcf328d46p-1, 0x1.87de2a6aea963p-2, -0x1.87de2a6aea963p-2,
                               -0x1.d906bcf328d46p-1};
constexpr double kNodes9[9] = {
    0x1.f838b8c811c17p-1,  0x1.bb67ae8584caap-1,  0x1.491b7523c161dp-1,  0x1.5e3a8748a0bf5p-2, 0.0,
    -0x1.5e3a8748a0bf5p-2, -0x1.491b7523c161dp-1, -0x1.bb67ae8584caap-1, -0x1.f838b8c811c17p-1};

// The nodes of a segment in the variable its polynomial is written in, and what to add to that
// variable to get back t in [1, 1.25).
template <typename Real>
struct FitVariable;

template <>
struct FitVariable<float> {
  static constexpr double kShift = 0.0;
  static double node(int k) { return 1.125 + 0.125 * kNodes4[k]; }
};

template <>
struct FitVariable<double> {
  static constexpr double kShift = 1.125;
  static double node(int k) { return 0.125 * kNodes9[k]; }
};

// Newton's interpolating polynomial through (node, value), expanded to powers of the variable.
template <typename Real>
void interpolate(const double* node, double* value, Real* coefficients) {
  constexpr int n = Segmentation<Real>::kCoefficients;
  for (int order = 1; order < n; ++order) {
    for (int k = n - 1; k >= order; --k) {
      value[k] = (value[k] - value[k - 1]) / (node[k] - node[k - order]);
    }
  }
  double power[n] = {value[n - 1]};
  for (int k = n - 2; k >= 0; --k) {
    for (int j = n - 1 - k; j >= 1; --j) power[j] = power[j - 1] - node[k] * power[j];
    power[0] = value[k] - node[k] * power[0];
  }
  for (int j = 0; j < n; ++j) coefficients[j] = static_cast<Real>(power[j]);
}

// `rows` are zeros.
template <typename Real, typename Quantile>
void fit_half(Quantile quantile, Real* rows) {
  using S = Segmentation<Real>;
  constexpr int n = S::kCoefficients;
  double node[n];
  for (int k = 0; k < n; ++k) node[k] = FitVariable<Real>::node(k);
  for (int segment = 0; segment < S::kSegments - 1; ++segment) {
    const int exponent = segment / 4 - 1 - (S::kMagnitudeBits + 1);
    const double octave = power_of_two(exponent);
    const double quarter = 0.25 * (segment % 4);
    double value[n];
    for (int k = 0; k < n; ++k) {
      const double t = node[k] + FitVariable<Real>::kShift;
      value[k] = quantile((t + quarter) * octave);
    }
    interpolate<Real>(node, value, rows + segment * n);
  }
  // Of the last segment only the start is met, by the words whose x rounds up to the middle.
  rows[(S::kSegments - 1) * n] = static_cast<Real>(quantile(0.5));
}

template <typename Real>
constexpr size_t kHalfSize =
    static_cast<size_t>(Segmentation<Real>::kSegments) * Segmentation<Real>::kCoefficients;

template <typename Real>
std::shared_ptr<const QuantileTable<Real>> fit_truncated_normal(double lower, double upper) {
  const TruncatedNormal normal(lower, upper);
  auto table = std::make_shared<QuantileTable<Real>>();
  table->symmetric = normal.symmetric();
  table->center = normal.center();
  table->coefficients.resize(table->symmetric ? kHalfSize<Real> : 2 * kHalfSize<Real>);
  fit_half<Real>([&](double mass) { return normal.from_upper(mass); }, table->coefficients.data());
  if (!table->symmetric) {
    fit_half<Real>([&](double mass) { return normal.from_lower(mass); },
                   table->coefficients.data() + kHalfSize<Real>);
  }
  return table;
}

template <typename Real>
std::shared_ptr<const QuantileTable<Real>> fit_logistic() {
  auto table = std::make_shared<QuantileTable<Real>>();
  table->symmetric = true;
  table->center = 0.0;
  table->coefficients.resize(kHalfSize<Real>);
  fit_half<Real>([](double mass) { return portable_log(1.0 - mass) - portable_log(mass); },
                 table->coefficients.data());
  return table;
}

enum class TableKind { kTruncatedNormal, kLogistic };

// Tables fitted so far. A table is 2 to 37 kB and a model uses a handful of bounds; a program
// that sweeps through bounds starts over when the limit is reached.
template <typename Real>
class TableCache {
 public:
  using Table = std::shared_ptr<const QuantileTable<Real>>;
  using Key = std::tuple<TableKind, double, double>;

  static TableCache& instance() {
    static auto* cache = new TableCache;  // never destroyed: used until the process ends
    return *cache;
  }

  template <typename Fit>
  Table get(const Key& key, Fit fit) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto found = tables_.find(key);
      if (found != tables_.end()) return found->second;
    }
    // Fitted outside the lock; two threads that race here fit the same bits.
    const DefaultFloatEnvironment environment;
    Table table = fit();
    const std::lock_guard<std::mutex> lock(mutex_);
    if (tables_.size() >= kMaximumTables) tables_.clear();
    return tables_.emplace(key, std::move(table)).first->second;
  }

  // A child process gets a copy of the memory but only the forking thread: the lock must not be
  // held by another one at that moment.
  static void lock_for_fork() { instance().mutex_.lock(); }
  static void unlock_after_fork() { instance().mutex_.unlock(); }

 private:
  static constexpr size_t kMaximumTables = 1024;
  std::mutex mutex_;
  std::map<Key, Table> tables_;
};

void lock_caches() {
  TableCache<float>::lock_for_fork();
  TableCache<double>::lock_for_fork();
}

void unlock_caches() {
  TableCache<double>::unlock_after_fork();
  TableCache<float>::unlock_after_fork();
}

[[maybe_unused]] const int kForkHandlers =
    pthread_atfork(lock_caches, unlock_caches, unlock_caches);

// Beyond 40 standard deviations a tail probability is 0 in double precision.
constexpr double kUnbounded = 40.0;

}  // namespace

template <typename Real>
std::shared_ptr<const QuantileTable<Real>> truncated_normal_table(double lower, double upper) {
  constexpr double infinity = __builtin_huge_val();
  if (lower < -kUnbounded && upper > -kUnbounded) lower = -infinity;
  if (upper > kUnbounded && lower < kUnbounded) upper = infinity;
  return TableCache<Real>::instance().get({TableKind::kTruncatedNormal, lower, upper},
                                          [&] { return fit_truncated_normal<Real>(lower, upper); });
}

template <typename Real>
std::shared_ptr<const QuantileTable<Real>> logistic_table() {
  return TableCache<Real>::instance().get({TableKind::kLogistic, 0.0, 0.0},
                                          [] { return fit_logistic<Real>(); });
}

template std::shared_ptr<const QuantileTable<float>> truncated_normal_table(double, double);
template std::shared_ptr<const QuantileTable<double>> truncated_normal_table(double, double);
template std::shared_ptr<const QuantileTable<float>> logistic_table();
template std::shared_ptr<const QuantileTable<double>> logistic_table();

}  // namespace torch_init
