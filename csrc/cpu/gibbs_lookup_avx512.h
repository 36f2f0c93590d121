// SPDX-License-Identifier: Apache-2.0
//
// Sixteen chains are the lanes of a vector. Four sources have sixteen states, so the sums of their
// weights are a table that fills one vector, and a permutation looks up sixteen chains' sums at
// once: 64 products for a permutation and an addition, whatever the states. (On Zen 5, before its
// sums were all kept in registers, three int8 limbs through VNNI took 1.6 times as long, adding up
// the rows of the sources that are on 1.4 times at 20 % of them, 3.5 times at 50 %.) A table is
// made of the weights where it is used; the more vectors of chains share it the better.
#pragma once

#include "cpu/gibbs_packed_avx512.h"
#include "cpu/gibbs_philox_inl.h"
#include "cpu/kernels_inl.h"
#include "cpu/simd_avx512.h"
#include "gibbs/half_step.h"
#include "gibbs/mean.h"

namespace torch_init {
namespace {

constexpr int kBlockUnits = 4;
constexpr int kMostVectors = 8;

using Value = QuantileMap<Avx512, true, false>;

__m512i thresholds(const Value& value, __m512i words) {
  return _mm512_cvt_roundps_epi32(value(words), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

template <int kVectors>
class LookupSampler {
  // Units that are added up side by side: registers hold 24 vectors of sums.
  static constexpr int kSideBySide = kVectors <= 6 ? kBlockUnits : kBlockUnits / 2;

 public:
  LookupSampler(const GibbsTask& task, int64_t first, int64_t count, uint32_t* scratch)
      : task_(task), first_(first), count_(count), value_(task.threshold) {
    for (int side = kVisible; side <= kHidden; ++side) {
      packed_[side] = scratch;
      scratch += quads(task.side[side].units) * kVectors * kLanes;
    }
    clamped_ = scratch;
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (int v = 0; v < kVectors; ++v) {
      const uint32_t chain = task.first_chain + static_cast<uint32_t>(first + v * kLanes);
      chain_[v] = _mm512_add_epi32(lane, Avx512::broadcast(chain));
      const int64_t left = count - v * kLanes;
      const __mmask16 present = static_cast<__mmask16>(first_bytes(left < kLanes ? left : kLanes));
      beta_[v] = task.beta == nullptr
                     ? Avx512::broadcast(static_cast<uint32_t>(kBetaOne))
                     : _mm512_maskz_loadu_epi32(present, task.beta + first + v * kLanes);
    }
  }

  void run() {
    pack(1 - task_.first_side);
    if (task_.clamped != nullptr) {
      pack(kVisible);
      pack_clamped();
    }
    for (int64_t n = 0; n < task_.half_steps; ++n) half_step(n);
    for (int side = kVisible; side <= kHidden; ++side) {
      if (must_unpack(task_, side)) unpack(side);
    }
  }

 private:
  uint32_t* packed(int side, int64_t quad) const {
    return packed_[side] + quad * kVectors * kLanes;
  }

  void pack(int side) {
    const int64_t units = task_.side[side].units;
    memset(packed_[side], 0, static_cast<size_t>(quads(units) * kVectors * kLanes) * 4);
    for (int64_t c = 0; c < count_; ++c) {
      const uint8_t* state = task_.state[side] + (first_ + c) * units;
      for (int64_t unit = 0; unit < units; unit += 64) {
        uint64_t bits = on_bits(state + unit, units - unit);
        for (int64_t quad = unit / kQuadUnits; bits != 0; ++quad, bits >>= 16) {
          packed(side, quad)[c] = spread(static_cast<uint32_t>(bits & 0xffffu));
        }
      }
    }
  }

  void unpack(int side) const {
    const int64_t units = task_.side[side].units;
    for (int64_t c = 0; c < count_; ++c) {
      uint8_t* state = task_.state[side] + (first_ + c) * units;
      for (int64_t unit = 0; unit < units; unit += 64) {
        uint64_t bits = 0;
        const int64_t first_quad = unit / kQuadUnits;
        for (int64_t i = 0; i < 4 && first_quad + i < quads(units); ++i) {
          bits |= uint64_t{gathered(packed(side, first_quad + i)[c])} << (16 * i);
        }
        _mm512_mask_storeu_epi8(state + unit, first_bytes(units - unit),
                                _mm512_maskz_set1_epi8(bits, 1));
      }
    }
  }

  void pack_clamped() {
    const int64_t units = task_.side[kVisible].units;
    for (int64_t unit = 0; unit < units; unit += kQuadUnits) {
      const int64_t left = units - unit < kQuadUnits ? units - unit : kQuadUnits;
      clamped_[unit / kQuadUnits] =
          spread(static_cast<uint32_t>(on_bits(task_.clamped + unit, left)));
    }
  }

  void half_step(int64_t n) const {
    const int to = side_of(task_, n);
    const SideWeights& side = task_.side[to];
    const PhiloxBlock counter =
        gibbs_counter(0, 0, task_.first_step + static_cast<uint64_t>(n / 2), to);
    const bool sampled = samples(task_, n);
    const bool written = (to == kHidden && task_.fields != nullptr) || writes_means(task_, n);
    for (int64_t quad = 0; quad < quads(side.units); ++quad) {
      __m512i on[kVectors] = {};
      alignas(64) int32_t fields[kQuadUnits][kVectors * kLanes];
      for (int block = 0; block < 4; ++block) {
        const int64_t unit = quad * kQuadUnits + block * kBlockUnits;
        if (unit >= side.units) break;
        __m512i field[kBlockUnits][kVectors];
        for (int k = 0; k < kBlockUnits; k += kSideBySide) add_up(side, to, unit + k, field + k);
        for (int k = 0; k < kBlockUnits; ++k) {
          for (int v = 0; v < kVectors; ++v) {
            field[k][v] = field_of_unit(side, to, unit + k, field[k][v]);
            if (!written) continue;
            _mm512_store_si512(&fields[block * kBlockUnits + k][v * kLanes], field[k][v]);
          }
        }
        if (sampled) sample_block(to, unit, counter, 8 * block, field, on);
      }
      if (written) write(quad, fields, writes_means(task_, n));
      if (sampled) keep(to, quad, on);
    }
  }

  // Adds the bits of units unit ... unit + 3, shifted to the left.
  void sample_block(int to, int64_t unit, const PhiloxBlock& counter, int shift,
                    const __m512i field[kBlockUnits][kVectors], __m512i on[kVectors]) const {
    for (int v = 0; v < kVectors; ++v) {
      __m512i word[kBlockUnits];
      words(static_cast<uint32_t>(unit / kBlockUnits), v, counter, word);
      for (int k = 0; k < kBlockUnits; ++k) {
        const __m512i base = _mm512_set1_epi64(base_of(task_, to, unit + k));
        const __m512i threshold = thresholds(value_, word[k]);
        const __mmask16 is_on =
            !tempered(task_, to)
                ? _mm512_cmpgt_epi32_mask(field[k][v], threshold)
                : exceeds_at(beta_at(to, unit + k, v), field[k][v], base, threshold);
        on[v] = _mm512_or_si512(on[v], _mm512_maskz_set1_epi32(is_on, 1 << (shift + k)));
      }
    }
  }

  // The sums of units unit ... unit + kSideBySide - 1.
  void add_up(const SideWeights& side, int to, int64_t unit,
              __m512i sum[kSideBySide][kVectors]) const {
    const int32_t* row[kSideBySide];
    for (int k = 0; k < kSideBySide; ++k) {
      const int64_t last = side.units - 1;
      row[k] = side.by_unit + (unit + k < last ? unit + k : last) * side.by_unit_stride;
    }
    __m512i total[kSideBySide][kVectors];
    for (auto& of_unit : total) {
      for (__m512i& t : of_unit) t = _mm512_setzero_si512();
    }
    const int64_t count = quads(side.sources);
    for (int64_t quad = 0; quad < count; ++quad) {
      const uint32_t* const states = packed(1 - to, quad);
      // Unrolled, compilers add up the four bytes' sums first, and run out of registers.
#pragma GCC unroll 1
      for (int byte = 0; byte < 4; ++byte) {
        const int64_t source = quad * kQuadUnits + byte * kBlockUnits;
        __m512i table[kSideBySide];
        for (int k = 0; k < kSideBySide; ++k) table[k] = table_of(row[k] + source);
        const char* const at = reinterpret_cast<const char*>(states) + byte;
        for (int v = 0; v < kVectors; ++v) {
          // The permutation reads a lane's lowest four bits, here those of the byte.
          const __m512i index = _mm512_loadu_si512(at + v * sizeof(__m512i));
          for (int k = 0; k < kSideBySide; ++k) {
            total[k][v] = _mm512_add_epi32(total[k][v], _mm512_permutexvar_epi32(index, table[k]));
          }
        }
      }
    }
    for (int k = 0; k < kSideBySide; ++k) {
      for (int v = 0; v < kVectors; ++v) sum[k][v] = total[k][v];
    }
  }

  // Lane i: the sum of the weights of the bits of i.
  static __m512i table_of(const int32_t* weight) {
    __m512i table = _mm512_maskz_set1_epi32(0xaaaa, weight[0]);
    table = _mm512_mask_add_epi32(table, 0xcccc, table, _mm512_set1_epi32(weight[1]));
    table = _mm512_mask_add_epi32(table, 0xf0f0, table, _mm512_set1_epi32(weight[2]));
    return _mm512_mask_add_epi32(table, 0xff00, table, _mm512_set1_epi32(weight[3]));
  }

  // out[k]: a word for each chain of vector v, for the block's unit k.
  void words(uint32_t unit_block, int v, const PhiloxBlock& counter, __m512i out[4]) const {
    __m512i even[4] = {Avx512::broadcast(unit_block), chain_[v], Avx512::broadcast(counter.word[2]),
                       Avx512::broadcast(counter.word[3])};
    __m512i odd[4] = {even[0], _mm512_srli_epi64(chain_[v], 32), even[2], even[3]};
    philox_lanes<Avx512>(task_.key, even);
    philox_lanes<Avx512>(task_.key, odd);
    for (int k = 0; k < 4; ++k) {
      out[k] = _mm512_mask_mov_epi32(even[k], 0xaaaa, _mm512_slli_epi64(odd[k], 32));
    }
  }

  __m512i field_of_unit(const SideWeights& side, int to, int64_t unit, __m512i sum) const {
    const int spin_sources = task_.spin[1 - to];
    const uint32_t bias = static_cast<uint32_t>(side.bias[unit]);
    const uint32_t of_sources = spin_sources != 0 ? static_cast<uint32_t>(side.sums[unit]) : 0;
    sum = _mm512_sll_epi32(sum, _mm_cvtsi32_si128(spin_sources));
    sum = _mm512_add_epi32(sum, Avx512::broadcast(bias - of_sources));
    return _mm512_sll_epi32(sum, _mm_cvtsi32_si128(task_.spin[to]));
  }

  // Sixteen hidden units' fields, [unit][chain], or their means, to where each chain has its own.
  void write(int64_t quad, const int32_t fields[kQuadUnits][kVectors * kLanes], bool means) const {
    const int64_t units = task_.side[kHidden].units;
    const int64_t unit = quad * kQuadUnits;
    const int64_t n = units - unit < kQuadUnits ? units - unit : kQuadUnits;
    if (task_.fields != nullptr) {
      for (int64_t c = 0; c < count_; ++c) {
        int32_t* const out = task_.fields + (first_ + c) * units + unit;
        for (int64_t u = 0; u < n; ++u) out[u] = fields[u][c];
      }
    }
    if (!means) return;
    alignas(64) int16_t mean[kQuadUnits][kVectors * kLanes];
    for (int64_t u = 0; u < n; ++u) {
      alignas(64) float real[kVectors * kLanes];
      for (int v = 0; v < kVectors; ++v) {
        alignas(64) int32_t beta[kLanes];
        _mm512_store_si512(beta, beta_at(kHidden, unit + u, v));
        for (int c = v * kLanes; c < (v + 1) * kLanes; ++c) {
          real[c] = real_field(ones_of(fields[u][c]), task_.scale, beta[c - v * kLanes]);
        }
      }
      for (int c = 0; c < kVectors * kLanes; ++c) mean[u][c] = fixed_mean(real[c]);
    }
    for (int64_t c = 0; c < count_; ++c) {
      int16_t* const out = task_.means + (first_ + c) * units + unit;
      for (int64_t u = 0; u < n; ++u) out[u] = mean[u][c];
    }
  }

  // As beta_of, of vector v's chains.
  __m512i beta_at(int to, int64_t unit, int v) const {
    if (task_.unit_beta[to] == nullptr) return beta_[v];
    const __m512i of_unit = _mm512_set1_epi64(task_.unit_beta[to][unit]);
    const __m512i even = _mm512_srli_epi64(_mm512_mul_epu32(beta_[v], of_unit), kBetaBits);
    const __m512i odd =
        _mm512_srli_epi64(_mm512_mul_epu32(Avx512::high_half(beta_[v]), of_unit), kBetaBits);
    return _mm512_mask_mov_epi32(even, 0xaaaa, _mm512_slli_epi64(odd, 32));
  }

  // As `exceeds`, in 64 bits: the sign of the threshold less the field.
  static __mmask16 exceeds_at(__m512i beta, __m512i field, __m512i base, __m512i threshold) {
    const __m512i one = _mm512_set1_epi64(kBetaOne);
    const auto difference = [&](__m512i b, __m512i f, __m512i t) {
      const __m512i scaled = _mm512_srai_epi64(_mm512_slli_epi64(t, 32), 32 - kBetaBits);
      const __m512i of_base = _mm512_mul_epi32(_mm512_sub_epi64(one, b), base);
      return _mm512_sub_epi64(scaled, _mm512_add_epi64(_mm512_mul_epi32(b, f), of_base));
    };
    const __m512i even = difference(beta, field, threshold);
    const __m512i odd =
        difference(Avx512::high_half(beta), Avx512::high_half(field), Avx512::high_half(threshold));
    return _mm512_movepi32_mask(_mm512_mask_mov_epi32(Avx512::high_half(even), 0xaaaa, odd));
  }

  void keep(int to, int64_t quad, __m512i on[kVectors]) const {
    uint32_t* const states = packed(to, quad);
    for (int v = 0; v < kVectors; ++v) {
      uint32_t* const at = states + v * kLanes;
      if (to == kVisible && task_.clamped != nullptr) {
        const __m512i kept = Avx512::broadcast(clamped_[quad]);
        // kept ? what was : on
        on[v] = _mm512_ternarylogic_epi32(kept, _mm512_loadu_si512(at), on[v], 0xca);
      }
      _mm512_storeu_si512(at, on[v]);
    }
  }

  const GibbsTask& task_;
  const int64_t first_;
  const int64_t count_;
  const Value value_;
  uint32_t* packed_[2];
  uint32_t* clamped_;  // [visible quads]
  __m512i chain_[kVectors];
  __m512i beta_[kVectors];
};

}  // namespace
}  // namespace torch_init
