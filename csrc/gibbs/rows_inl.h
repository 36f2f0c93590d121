// SPDX-License-Identifier: Apache-2.0
//
// Half-steps by adding up the weights' rows of the sources that are on, for tiers without a table
// lookup in registers. A tier's file defines TI_VECTOR_BYTES and a class `Thresholds` with
//
//     static void of_blocks(const Distribution&, uint64_t key, PhiloxBlock counter, int n,
//     int32_t*)
//
// which writes the thresholds of n blocks of four units, the first having this counter.
#pragma once

#include <string.h>

#include "gibbs/fine_inl.h"
#include "gibbs/kernels.h"
#include "gibbs/mean.h"

namespace torch_init {
namespace {

typedef int32_t Ints __attribute__((vector_size(TI_VECTOR_BYTES)));
// What the accumulators of a tile of units take: half the registers there are.
constexpr int kTileVectors = 8;
constexpr int64_t kTile = kTileVectors * TI_VECTOR_BYTES / 4;
constexpr int64_t kRowsMostChains = 64;

// Chains of one call: which sources are on.
struct ActiveSources {
  int32_t* list;   // [chains][sources]
  int64_t* count;  // [chains]
};

template <int kVectors>
inline void add_rows(const int32_t* rows, int64_t stride, const int32_t* active, int64_t count,
                     int32_t* sums) {
  Ints total[kVectors] = {};
  for (int64_t n = 0; n < count; ++n) {
    const int32_t* row = rows + active[n] * stride;
    for (int v = 0; v < kVectors; ++v) {
      Ints weights;
      memcpy(&weights, row + v * (TI_VECTOR_BYTES / 4), sizeof weights);
      total[v] += weights;
    }
  }
  memcpy(sums, total, sizeof total);
}

typedef int32_t HalfInts __attribute__((vector_size(TI_VECTOR_BYTES / 2)));

template <int kVectors>
inline void add_grey_tile(const int32_t* rows, int64_t stride, const int32_t* active, int64_t count,
                          const uint8_t* levels, int64_t* sums) {
  Doubles total[kVectors] = {};
  for (int64_t n = 0; n < count; ++n) {
    const int32_t* row = rows + active[n] * stride;
    const Doubles level = Doubles{} + static_cast<double>(levels[active[n]]);
    for (int v = 0; v < kVectors; ++v) {
      HalfInts weights;
      memcpy(&weights, row + v * kDoubles, sizeof weights);
      total[v] = multiply_add(level, __builtin_convertvector(weights, Doubles), total[v]);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    for (int64_t i = 0; i < kDoubles; ++i)
      sums[v * kDoubles + i] = static_cast<int64_t>(total[v][i]);
  }
}

template <int64_t kUnits>
inline void add_grey_rows(const int32_t* rows, int64_t stride, const int32_t* active, int64_t count,
                          const uint8_t* levels, int64_t* sums) {
  constexpr int64_t kAll = kUnits / kDoubles;
  constexpr int64_t kVectors = kAll < kTileVectors ? kAll : kTileVectors;
  for (int64_t unit = 0; unit < kUnits; unit += kVectors * kDoubles) {
    add_grey_tile<kVectors>(rows + unit, stride, active, count, levels, sums + unit);
  }
}

template <typename Thresholds>
class RowSampler {
 public:
  // `fine` is scratch memory for fine levels; without them null.
  RowSampler(const GibbsTask& task, int64_t first, int64_t count, ActiveSources active,
             double* fine)
      : task_(task), first_(first), count_(count), active_(active), fine_(fine) {}

  void run() {
    for (int64_t n = 0; n < task_.half_steps; ++n) half_step(n);
  }

 private:
  void half_step(int64_t n) {
    if (task_.fine != nullptr) return fine_half_step(n);
    const int to = side_of(task_, n);
    const SideWeights& side = task_.side[to];
    for (int64_t c = 0; c < count_; ++c) list_active(side, 1 - to, c);
    const bool grey = n == 0 && task_.grey != 0;
    int64_t unit = 0;
    for (; unit + kTile <= padded(side.units); unit += kTile) tile<kTile>(n, unit, grey);
    for (; unit < side.units; unit += kRowAlignment) tile<kRowAlignment>(n, unit, grey);
  }

  // Of kFineUnits units and kFineRows chains at a time.
  void fine_half_step(int64_t n) {
    const SideWeights& side = task_.side[kHidden];
    double* const weights = fine_;
    double* const levels = fine_ + side.sources * kFineUnits;
    for (int64_t c = 0; c < count_; ++c) {
      const int16_t* const from = task_.fine + (first_ + c) * side.sources;
      double* const to = levels + c / kFineRows * kFineRows * side.sources + c % kFineRows;
      for (int64_t i = 0; i < side.sources; ++i) to[i * kFineRows] = static_cast<double>(from[i]);
    }
    for (int64_t unit = 0; unit < side.units; unit += kFineUnits) {
      const int64_t present = existing<kFineUnits>(side, unit);
      to_doubles(side.by_source + unit, side.by_source_stride, side.sources, present, kFineUnits,
                 weights);
      for (int64_t c = 0; c < count_; c += kFineRows) {
        double sums[kFineRows][kFineUnits];
        add_fine(levels + c * side.sources, weights, side.sources, sums);
        for (int64_t r = 0; r < kFineRows && c + r < count_; ++r) {
          int64_t fields[kFineUnits] = {};
          for (int64_t u = 0; u < present; ++u) {
            fields[u] = grey_field_of(side.bias[unit + u], static_cast<int64_t>(sums[r][u]),
                                      task_.spin[kHidden], kFineLevels);
          }
          use<kFineUnits>(n, unit, c + r, fields, kFineLevels);
        }
      }
    }
  }

  const uint8_t* sources(int from, int64_t c) const {
    return task_.state[from] + (first_ + c) * task_.side[1 - from].sources;
  }

  void list_active(const SideWeights& side, int from, int64_t c) {
    const uint8_t* state = sources(from, c);
    int32_t* list = active_.list + c * side.sources;
    int64_t count = 0;
    for (int64_t i = 0; i < side.sources; ++i) {
      list[count] = static_cast<int32_t>(i);
      count += state[i] != 0;
    }
    active_.count[c] = count;
  }

  // Units unit ... unit + kUnits - 1 of all chains.
  template <int64_t kUnits>
  void tile(int64_t n, int64_t unit, bool grey) {
    const int to = side_of(task_, n);
    const SideWeights& side = task_.side[to];
    const int32_t* rows = side.by_source + unit;
    for (int64_t c = 0; c < count_; ++c) {
      const int32_t* list = active_.list + c * side.sources;
      const int64_t count = active_.count[c];
      if (grey) {
        int64_t sums[kUnits];
        add_grey_rows<kUnits>(rows, side.by_source_stride, list, count, sources(1 - to, c), sums);
        for (int64_t u = 0; u < kUnits; ++u) {
          sums[u] = grey_field_of(side.bias[unit + u], sums[u], task_.spin[to]);
        }
        use<kUnits>(n, unit, c, sums, kLevels);
      } else {
        alignas(64) int32_t sums[kUnits];
        add_rows<static_cast<int>(kUnits * 4 / TI_VECTOR_BYTES)>(rows, side.by_source_stride, list,
                                                                 count, sums);
        const int spin_sources = task_.spin[1 - to];
        const int spin_units = task_.spin[to];
        for (int64_t u = 0; u < kUnits; ++u) {
          sums[u] =
              field_of(side.bias[unit + u], side.sums[unit + u], sums[u], spin_sources, spin_units);
        }
        if (to == kHidden && task_.fields != nullptr) {
          memcpy(task_.fields + (first_ + c) * side.units + unit, sums,
                 static_cast<size_t>(existing<kUnits>(side, unit)) * sizeof sums[0]);
        }
        use<kUnits>(n, unit, c, sums, 1);
      }
    }
  }

  template <int64_t kUnits>
  static int64_t existing(const SideWeights& side, int64_t unit) {
    return side.units - unit < kUnits ? side.units - unit : kUnits;
  }

  static float ones(int32_t field, int64_t) { return ones_of(field); }
  static float ones(int64_t field, int64_t levels) { return ones_of(field, levels); }

  // Samples and writes means, given the fields of a chain's units.
  template <int64_t kUnits, typename Field>
  void use(int64_t n, int64_t unit, int64_t c, const Field* fields, int64_t levels) {
    const int to = side_of(task_, n);
    if (writes_means(task_, n)) {
      alignas(64) float real[kUnits];
      for (int64_t u = 0; u < kUnits; ++u) {
        const int32_t beta = beta_of(task_, to, first_ + c, unit + u);
        real[u] = real_field(ones(fields[u], levels), task_.scale, beta);
      }
      alignas(64) int16_t means[kUnits];
      for (int64_t u = 0; u < kUnits; ++u) means[u] = fixed_mean(real[u]);
      const SideWeights& side = task_.side[to];
      memcpy(task_.means + (first_ + c) * side.units + unit, means,
             static_cast<size_t>(existing<kUnits>(side, unit)) * sizeof means[0]);
    }
    if (!samples(task_, n)) return;
    alignas(64) int32_t thresholds[kUnits];
    const uint32_t chain = task_.first_chain + static_cast<uint32_t>(first_ + c);
    const uint64_t step = task_.first_step + static_cast<uint64_t>(n / 2);
    Thresholds::of_blocks(task_.threshold, task_.key,
                          gibbs_counter(static_cast<uint32_t>(unit / 4), chain, step, to),
                          static_cast<int>(kUnits / 4), thresholds);
    alignas(64) uint8_t on[kUnits];
    for (int64_t u = 0; u < kUnits; ++u) {
      if (!tempered(task_, to)) {
        on[u] = fields[u] > static_cast<Field>(levels) * thresholds[u];
      } else {
        on[u] = exceeds(fields[u], base_of(task_, to, unit + u), thresholds[u], levels,
                        beta_of(task_, to, first_ + c, unit + u));
      }
    }
    keep<kUnits>(to, unit, c, on);
  }

  template <int64_t kUnits>
  void keep(int to, int64_t unit, int64_t c, const uint8_t* on) {
    const int64_t units = task_.side[to].units;
    uint8_t* out = task_.state[to] + (first_ + c) * units + unit;
    const int64_t n = units - unit < kUnits ? units - unit : kUnits;
    if (to == kHidden || task_.clamped == nullptr) {
      memcpy(out, on, static_cast<size_t>(n));
      return;
    }
    for (int64_t u = 0; u < n; ++u) {
      if (task_.clamped[unit + u] == 0) out[u] = on[u];
    }
  }

  const GibbsTask& task_;
  const int64_t first_;
  const int64_t count_;
  const ActiveSources active_;
  double* const fine_;
};

inline int64_t fine_scratch_size(const GibbsTask& task, int64_t count) {
  const int64_t chains = (count + kFineRows - 1) / kFineRows * kFineRows;
  return (chains + kFineUnits) * task.side[kHidden].sources * static_cast<int64_t>(sizeof(double));
}

inline int64_t rows_scratch_size(const GibbsTask& task, int64_t count) {
  if (task.fine != nullptr) return fine_scratch_size(task, count);
  const int64_t visible = task.side[kVisible].units;
  const int64_t hidden = task.side[kHidden].units;
  // One more: the last source is written before it is known to be on.
  const int64_t sources = (visible > hidden ? visible : hidden) * count + 1;
  return count * static_cast<int64_t>(sizeof(int64_t)) +
         sources * static_cast<int64_t>(sizeof(int32_t));
}

template <typename Thresholds>
void run_rows(const GibbsTask& task, int64_t first, int64_t count, void* scratch) {
  if (task.fine != nullptr) {
    RowSampler<Thresholds>(task, first, count, {}, static_cast<double*>(scratch)).run();
    return;
  }
  int64_t* const counts = static_cast<int64_t*>(scratch);
  const ActiveSources active = {reinterpret_cast<int32_t*>(counts + count), counts};
  RowSampler<Thresholds>(task, first, count, active, nullptr).run();
}

}  // namespace
}  // namespace torch_init
