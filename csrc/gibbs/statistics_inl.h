// SPDX-License-Identifier: Apache-2.0
//
// Statistics for every tier, in vectors of TI_VECTOR_BYTES: a visible unit's row is the sum of the
// hidden rows of the chains that have it on.
#pragma once

#include <string.h>

#include "gibbs/fine_inl.h"
#include "gibbs/statistics.h"

namespace torch_init {
namespace {

constexpr int64_t kStatisticsTile = 2 * TI_VECTOR_BYTES;  // hidden units added up at a time
static_assert(kWidestStatisticsTile % kStatisticsTile == 0);

// The chains of a term that have a visible unit on, or of fine levels the unit's sums.
struct OnChains {
  const int32_t* chains;
  int64_t count;
  int64_t unit;
  const int64_t* fine;
};

inline int64_t until(const OnChains& on, int64_t begin, int64_t most) {
  return on.count - begin < most ? on.count : begin + most;
}

// Hidden states, added up in bytes: as many chains at a time as a byte counts.
template <typename Out>
inline void add_states(const StatisticsTerm& term, const OnChains& on, int64_t hidden, Out* out) {
  typedef uint8_t Bytes __attribute__((vector_size(TI_VECTOR_BYTES)));
  constexpr int64_t kVectors = kStatisticsTile / TI_VECTOR_BYTES;
  const uint8_t* const rows = static_cast<const uint8_t*>(term.hidden) + hidden;
  for (int64_t begin = 0; begin < on.count;) {
    const int64_t end = until(on, begin, 255);
    Bytes total[kVectors] = {};
    for (int64_t i = begin; i < end; ++i) {
      const uint8_t* const row = rows + on.chains[i] * term.hidden_stride;
      for (int64_t v = 0; v < kVectors; ++v) {
        Bytes states;
        memcpy(&states, row + v * TI_VECTOR_BYTES, sizeof states);
        total[v] += states;
      }
    }
    uint8_t counts[kStatisticsTile];
    memcpy(counts, total, sizeof counts);
    const Out weight = static_cast<Out>(term.weight);
    for (int64_t j = 0; j < kStatisticsTile; ++j) out[j] += weight * static_cast<Out>(counts[j]);
    begin = end;
  }
}

// Hidden means: two are less than 2^16 together, and are added up in 32 bits, those of even and of
// odd units apart.
template <typename Out>
inline void add_means(const StatisticsTerm& term, const OnChains& on, int64_t hidden, Out* out) {
  typedef uint16_t Shorts __attribute__((vector_size(TI_VECTOR_BYTES)));
  typedef uint32_t Words __attribute__((vector_size(TI_VECTOR_BYTES)));
  constexpr int64_t kShorts = TI_VECTOR_BYTES / 2;
  constexpr int64_t kVectors = kStatisticsTile / kShorts;
  const int16_t* const rows = static_cast<const int16_t*>(term.hidden) + hidden;
  for (int64_t begin = 0; begin < on.count;) {
    const int64_t end = until(on, begin, 65536);
    Words even[kVectors] = {};
    Words odd[kVectors] = {};
    int64_t i = begin;
    for (; i + 1 < end; i += 2) {
      const int16_t* const one = rows + on.chains[i] * term.hidden_stride;
      const int16_t* const other = rows + on.chains[i + 1] * term.hidden_stride;
      for (int64_t v = 0; v < kVectors; ++v) {
        Shorts a, b;
        memcpy(&a, one + v * kShorts, sizeof a);
        memcpy(&b, other + v * kShorts, sizeof b);
        const Words sum = (Words)(a + b);
        even[v] += sum & 0xffffu;
        odd[v] += sum >> 16;
      }
    }
    for (; i < end; ++i) {
      const int16_t* const row = rows + on.chains[i] * term.hidden_stride;
      for (int64_t v = 0; v < kVectors; ++v) {
        Words means;
        memcpy(&means, row + v * kShorts, sizeof means);
        even[v] += means & 0xffffu;
        odd[v] += means >> 16;
      }
    }
    uint32_t of_even[kStatisticsTile / 2];
    uint32_t of_odd[kStatisticsTile / 2];
    memcpy(of_even, even, sizeof of_even);
    memcpy(of_odd, odd, sizeof of_odd);
    const Out weight = static_cast<Out>(term.weight);
    for (int64_t j = 0; j < kStatisticsTile / 2; ++j) {
      out[2 * j] += weight * static_cast<Out>(of_even[j]);
      out[2 * j + 1] += weight * static_cast<Out>(of_odd[j]);
    }
    begin = end;
  }
}

// Hidden means, times the visible unit's levels: of 256 chains at a time they fit 32 bits.
template <typename Out>
inline void add_grey(const StatisticsTerm& term, const OnChains& on, int64_t hidden,
                     int64_t visible_units, Out* out) {
  const int16_t* const rows = static_cast<const int16_t*>(term.hidden) + hidden;
  for (int64_t begin = 0; begin < on.count;) {
    const int64_t end = until(on, begin, 256);
    int32_t total[kStatisticsTile] = {};
    for (int64_t i = begin; i < end; ++i) {
      const int64_t chain = on.chains[i];
      const int32_t level = term.visible[chain * visible_units + on.unit];
      const int16_t* const row = rows + chain * term.hidden_stride;
      for (int64_t j = 0; j < kStatisticsTile; ++j) total[j] += level * row[j];
    }
    const Out weight = static_cast<Out>(term.weight);
    for (int64_t j = 0; j < kStatisticsTile; ++j) out[j] += weight * static_cast<Out>(total[j]);
    begin = end;
  }
}

// Of a visible unit, hidden units from j on.
template <typename Out>
inline void statistics_tile(const StatisticsTask& task, const OnChains on[kMostTerms], int64_t j) {
  // An initialiser, or memset, would be a string instruction, which starts slowly.
  typedef Out Outs __attribute__((vector_size(TI_VECTOR_BYTES)));
  constexpr int64_t kOuts = TI_VECTOR_BYTES / static_cast<int64_t>(sizeof(Out));
  alignas(64) Out sums[kStatisticsTile];
  const Outs zeros = {};
  for (int64_t k = 0; k < kStatisticsTile; k += kOuts) memcpy(sums + k, &zeros, sizeof zeros);
  for (int t = 0; t < task.terms; ++t) {
    const StatisticsTerm& term = task.term[t];
    if (term.fine != nullptr) {
      const Out weight = static_cast<Out>(term.weight);
      for (int64_t k = 0; k < kStatisticsTile; ++k) {
        sums[k] += weight * static_cast<Out>(on[t].fine[j + k]);
      }
    } else if (term.hidden_kind == HiddenKind::kStates) {
      add_states(term, on[t], j, sums);
    } else if (term.grey == 0) {
      add_means(term, on[t], j, sums);
    } else {
      add_grey(term, on[t], j, task.units[0], sums);
    }
  }
  Out* const out = static_cast<Out*>(task.out) + on[0].unit * task.units[1] + j;
  const int64_t left = task.units[1] - j;
  const int64_t n = left < kStatisticsTile ? left : kStatisticsTile;
  if (task.accumulate != 0) {
    for (int64_t k = 0; k < n; ++k) out[k] += sums[k];
  } else {
    memcpy(out, sums, static_cast<size_t>(n) * sizeof(Out));
  }
}

// Bit i: whether byte i of `count`, at most 64, is not 0.
inline uint64_t on_mask(const uint8_t* states, int64_t count) {
#if TI_VECTOR_BYTES == 64
  const __mmask64 present = count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
  const __m512i bytes = _mm512_maskz_loadu_epi8(present, states);
  return _mm512_test_epi8_mask(bytes, bytes);
#else
  uint64_t mask = 0;
  for (int64_t i = 0; i < count; i += 8) {
    uint64_t eight = 0;
    const int64_t n = count - i < 8 ? count - i : 8;
    if (n == 8) {
      memcpy(&eight, states + i, 8);
    } else {
      memcpy(&eight, states + i, static_cast<size_t>(n));
    }
    // The highest bit of each byte that is not 0, moved to the lowest; the product gathers them.
    constexpr uint64_t kLow = 0x7f7f7f7f7f7f7f7fu;
    const uint64_t bits = ((((eight & kLow) + kLow) | eight) & ~kLow) >> 7;
    mask |= (bits * 0x0102040810204080u) >> 56 << i;
  }
  return mask;
#endif
}

// Lists the chains that have each of `count` visible units on, and adds up their states.
inline void list_on(const StatisticsTerm& term, int64_t units, int64_t first, int64_t count,
                    int32_t* lists, OnChains* on) {
  int64_t found[kStatisticsUnits] = {};
  int64_t sums[kStatisticsUnits] = {};
  for (int64_t c = 0; c < term.chains; ++c) {
    const uint8_t* const states = term.visible + c * units + first;
    for (uint64_t mask = on_mask(states, count); mask != 0; mask &= mask - 1) {
      const int64_t i = __builtin_ctzll(mask);
      lists[i * term.chains + found[i]++] = static_cast<int32_t>(c);
      sums[i] += states[i];
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    on[i * kMostTerms] = {lists + i * term.chains, found[i], first + i, nullptr};
    term.visible_sums[first + i] = term.grey != 0 ? sums[i] : found[i];
  }
}

// What a term of fine levels needs.
struct FineScratch {
  double* levels;  // [groups of kFineRows visible units][chains][kFineRows]
  double* hidden;  // [chains][kFineUnits]
  int64_t* sums;   // [kStatisticsUnits][whole tiles of hidden units]
};

inline FineScratch fine_scratch(int64_t chains, char* memory) {
  static_assert(kFineUnits <= kMostFineUnits && kStatisticsUnits % kFineRows == 0);
  const int64_t at_once = chains < kFineChains ? chains : kFineChains;
  double* const levels = reinterpret_cast<double*>(memory);
  double* const hidden = levels + kStatisticsUnits * at_once;
  return {levels, hidden, reinterpret_cast<int64_t*>(hidden + kFineUnits * at_once)};
}

// Sums of some chains, from `begin` on, to be added to those of a term of fine levels.
inline void add_fine_chains(const StatisticsTerm& term, const int64_t units[2], int64_t first,
                            int64_t count, int64_t begin, FineScratch scratch) {
  const int64_t left = term.chains - begin;
  const int64_t chains = left < kFineChains ? left : kFineChains;
  const int16_t* const visible = term.fine + begin * units[0] + first;
  for (int64_t i = 0; i < count; i += kFineRows) {
    const int64_t present = count - i < kFineRows ? count - i : kFineRows;
    to_doubles(visible + i, units[0], chains, present, kFineRows, scratch.levels + i * chains);
  }
  for (int64_t c = 0; c < chains; ++c) {
    for (int64_t i = 0; i < count; ++i) term.visible_sums[first + i] += visible[c * units[0] + i];
  }
  const int16_t* const hidden =
      static_cast<const int16_t*>(term.hidden) + begin * term.hidden_stride;
  for (int64_t j = 0; j < units[1]; j += kFineUnits) {
    to_doubles(hidden + j, term.hidden_stride, chains, kFineUnits, kFineUnits, scratch.hidden);
    for (int64_t i = 0; i < count; i += kFineRows) {
      double block[kFineRows][kFineUnits];
      add_fine(scratch.levels + i * chains, scratch.hidden, chains, block);
      for (int64_t r = 0; r < kFineRows; ++r) {
        int64_t* const out = scratch.sums + (i + r) * whole_tiles(units[1]) + j;
        for (int64_t u = 0; u < kFineUnits; ++u) out[u] += static_cast<int64_t>(block[r][u]);
      }
    }
  }
}

// The sums of a term of fine levels.
inline void add_fine_levels(const StatisticsTerm& term, const int64_t units[2], int64_t first,
                            int64_t count, char* memory, OnChains* on) {
  const FineScratch scratch = fine_scratch(term.chains, memory);
  const int64_t stride = whole_tiles(units[1]);
  memset(scratch.sums, 0, static_cast<size_t>(kStatisticsUnits * stride) * sizeof(int64_t));
  for (int64_t i = 0; i < count; ++i) {
    on[i * kMostTerms] = {nullptr, 0, first + i, scratch.sums + i * stride};
    term.visible_sums[first + i] = 0;
  }
  for (int64_t begin = 0; begin < term.chains; begin += kFineChains) {
    add_fine_chains(term, units, first, count, begin, scratch);
  }
}

inline void statistics_rows(const StatisticsTask& task, int64_t first, int64_t count,
                            char* scratch) {
  OnChains on[kStatisticsUnits * kMostTerms];
  for (int t = 0; t < task.terms; ++t) {
    const StatisticsTerm& term = task.term[t];
    if (term.fine != nullptr) {
      add_fine_levels(term, task.units, first, count, scratch, on + t);
    } else {
      list_on(term, task.units[0], first, count, reinterpret_cast<int32_t*>(scratch), on + t);
    }
    scratch += statistics_scratch(term, task.units[1]);
  }
  // A tile's hidden rows stay in the nearest cache for all visible units.
  for (int64_t j = 0; j < task.units[1]; j += kStatisticsTile) {
    for (int64_t i = 0; i < count; ++i) {
      if (task.wide != 0) {
        statistics_tile<int64_t>(task, on + i * kMostTerms, j);
      } else {
        statistics_tile<int32_t>(task, on + i * kMostTerms, j);
      }
    }
  }
}

constexpr StatisticsKernels kStatisticsKernels = {statistics_rows};

}  // namespace
}  // namespace torch_init
