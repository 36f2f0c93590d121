// SPDX-License-Identifier: Apache-2.0
//
// The vector tiers' kernels, written once over a set of register operations (simd_*.h). Each tier
// instantiates them with its own `Simd`, whose type keeps the instantiations apart.
//
// Philox on 64-bit lanes: one lane holds one block, of whose counter words only the low halves
// count. The high halves are left as rubbish, since the multiplication reads low halves only;
// two multiplications and two shifts a round then serve a whole register of blocks.
#pragma once

#include "distributions/rounding.h"
#include "distributions/transform.h"
#include "fill/cpu_kernels.h"
#include "random/philox.h"

namespace torch_init {

// A key's schedule for blocks that share the high half of their block number. Counter words 2
// and 3 are 0 and word 1 is that high half, so the first two rounds are mostly constants.
template <typename Simd>
struct Schedule {
  using Words = typename Simd::Words;

  Schedule(uint64_t stream_key, uint32_t block_high) {
    uint32_t key0 = static_cast<uint32_t>(stream_key);
    uint32_t key1 = static_cast<uint32_t>(stream_key >> 32);
    const uint64_t product0 =
        static_cast<uint64_t>(kPhiloxMultiplier0) * static_cast<uint64_t>(block_high ^ key0);
    first_key1 = Simd::broadcast(key1);
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
    second_key0 = Simd::broadcast(key0);
    second_word2 = Simd::broadcast(static_cast<uint32_t>(product0 >> 32) ^ key1);
    second_word3 = Simd::broadcast(static_cast<uint32_t>(product0));
    for (int round = 0; round < kPhiloxRounds - 2; ++round) {
      key0 += kPhiloxWeyl0;
      key1 += kPhiloxWeyl1;
      key[round][0] = Simd::broadcast(key0);
      key[round][1] = Simd::broadcast(key1);
    }
  }

  Words first_key1;
  Words second_key0;
  Words second_word2;
  Words second_word3;
  Words key[kPhiloxRounds - 2][2];
};

// The words of Simd::kInterleaved registers of blocks, in stream order: four registers of 64-bit
// lanes become two registers of words.
template <typename Simd>
TI_HOST_DEVICE void next_words(const typename Simd::Words block[Simd::kInterleaved],
                               const Schedule<Simd>& schedule,
                               typename Simd::Words out[2 * Simd::kInterleaved]) {
  using Words = typename Simd::Words;
  const Words multiplier0 = Simd::broadcast(kPhiloxMultiplier0);
  const Words multiplier1 = Simd::broadcast(kPhiloxMultiplier1);
  Words word[Simd::kInterleaved][4];
  for (int i = 0; i < Simd::kInterleaved; ++i) {
    const Words product0 = Simd::multiply_low(multiplier0, block[i]);
    const Words word2 = Simd::exclusive_or(Simd::high_half(product0), schedule.first_key1);
    const Words product1 = Simd::multiply_low(multiplier1, word2);
    word[i][0] = Simd::exclusive_or(Simd::high_half(product1), schedule.second_key0);
    word[i][1] = product1;
    word[i][2] = Simd::exclusive_or(product0, schedule.second_word2);
    word[i][3] = schedule.second_word3;
  }
#pragma GCC unroll 8
  for (int round = 0; round < kPhiloxRounds - 2; ++round) {
    for (int i = 0; i < Simd::kInterleaved; ++i) {
      const Words product0 = Simd::multiply_low(multiplier0, word[i][0]);
      const Words product1 = Simd::multiply_low(multiplier1, word[i][2]);
      word[i][0] =
          Simd::exclusive_or(Simd::high_half(product1), word[i][1], schedule.key[round][0]);
      word[i][2] =
          Simd::exclusive_or(Simd::high_half(product0), word[i][3], schedule.key[round][1]);
      word[i][1] = product1;
      word[i][3] = product0;
    }
  }
  for (int i = 0; i < Simd::kInterleaved; ++i) Simd::interleave(word[i], out + 2 * i);
}

// The maps from a register of words to a register of values. Each restates value_from_word.

template <typename Simd>
struct UniformMap {
  explicit UniformMap(const Distribution& d)
      : scale(Simd::broadcast(d.f32.scale)),
        location(Simd::broadcast(d.f32.location)),
        low(Simd::broadcast(d.f32.low)),
        high(Simd::broadcast(d.f32.high)) {}

  typename Simd::Floats operator()(typename Simd::Words word) const {
    const auto u = Simd::to_floats(Simd::bit_and(word, Simd::broadcast(0x00ffffffu)));
    return Simd::clamp(Simd::fused_multiply_add(u, scale, location), low, high);
  }

  typename Simd::Floats scale, location, low, high;
};

template <typename Simd>
struct TwoPointMap {
  explicit TwoPointMap(const Distribution& d)
      : threshold(Simd::broadcast(d.threshold)),
        low(Simd::broadcast(d.f32.low)),
        high(Simd::broadcast(d.f32.high)) {}

  typename Simd::Floats operator()(typename Simd::Words word) const {
    return Simd::select_below(word, threshold, high, low);
  }

  typename Simd::Words threshold;
  typename Simd::Floats low, high;
};

template <typename Simd, bool kSymmetric, bool kBounded>
struct QuantileMap {
  explicit QuantileMap(const Distribution& d)
      : table(d.table_f32.rows),
        scale(Simd::broadcast(d.f32.scale)),
        location(Simd::broadcast(d.f32.location)),
        low(Simd::broadcast(d.f32.low)),
        high(Simd::broadcast(d.f32.high)) {}

  typename Simd::Floats operator()(typename Simd::Words word) const {
    using S = Segmentation<float>;
    const auto magnitude = Simd::to_floats(Simd::bit_and(word, Simd::broadcast(0x7fffffffu)));
    const auto bits = Simd::as_words(Simd::add(magnitude, Simd::broadcast(0.5f)));
    auto row = Simd::subtract(Simd::template shift_right<S::kPositionBits>(bits),
                              Simd::broadcast(S::kFirstSegment));
    const auto t = Simd::as_floats(Simd::bit_or(Simd::bit_and(bits, Simd::broadcast(0x001fffffu)),
                                                Simd::broadcast(0x3f800000u)));
    typename Simd::Floats c[4];
    if constexpr (kSymmetric) {
      table.look_up(row, c);
    } else {
      table.look_up(row, word, c);
    }
    auto q = Simd::fused_multiply_add(c[3], t, c[2]);
    q = Simd::fused_multiply_add(q, t, c[1]);
    q = Simd::fused_multiply_add(q, t, c[0]);
    if constexpr (kSymmetric) q = Simd::flip_sign(q, word);
    q = Simd::fused_multiply_add(q, scale, location);
    if constexpr (kBounded) q = Simd::clamp(q, low, high);
    return q;
  }

  typename Simd::template Table<kSymmetric> table;
  typename Simd::Floats scale, location, low, high;
};

struct NoMap {};  // the words themselves

// Fills `blocks` blocks whose numbers share their high half.
template <typename Simd, bool kStream, typename Map, typename Element>
TI_HOST_DEVICE void fill_same_high(const Map& map, uint64_t key, uint64_t first_block,
                                   size_t blocks, Element* out) {
  constexpr size_t kStep = Simd::kInterleaved * Simd::kBlocks;
  const Schedule<Simd> schedule(key, static_cast<uint32_t>(first_block >> 32));
  typename Simd::Words block[Simd::kInterleaved];
  for (uint64_t i = 0; i < Simd::kInterleaved; ++i) {
    block[i] = Simd::consecutive(first_block + i * Simd::kBlocks);
  }
  const auto next = [&](Element* to) {
    typename Simd::Words words[2 * Simd::kInterleaved];
    next_words<Simd>(block, schedule, words);
    for (auto& b : block) b = Simd::add_wide(b, Simd::broadcast_wide(kStep));
    for (const auto& w : words) {
      if constexpr (sizeof(Map) == sizeof(NoMap)) {
        Simd::store(to, w);
      } else {
        Simd::template store<kStream>(to, map(w));
      }
      to += Simd::kLanes;
    }
  };
  size_t done = 0;
  for (; done + kStep <= blocks; done += kStep) next(out + done * kWordsPerBlock);
  if (done < blocks) {
    alignas(64) Element rest[kStep * kWordsPerBlock];
    next(rest);
    memcpy(out + done * kWordsPerBlock, rest, (blocks - done) * kWordsPerBlock * sizeof(Element));
  }
}

template <typename Simd, bool kStream = false, typename Map, typename Element>
TI_HOST_DEVICE void fill_blocks(const Map& map, uint64_t key, uint64_t first_block, size_t blocks,
                                Element* out) {
  while (blocks > 0) {
    const uint64_t to_boundary = (uint64_t{1} << 32) - (first_block & 0xffffffffu);
    const size_t n = blocks < to_boundary ? blocks : static_cast<size_t>(to_boundary);
    fill_same_high<Simd, kStream>(map, key, first_block, n, out);
    first_block += n;
    blocks -= n;
    out += n * kWordsPerBlock;
  }
  if constexpr (kStream) Simd::fence();
}

template <typename Simd, bool kStream>
TI_HOST_DEVICE void values_f32_by_kind(const Distribution& d, uint64_t key, uint64_t first_block,
                                       size_t blocks, float* out) {
  const auto fill = [&](const auto& map) {
    fill_blocks<Simd, kStream>(map, key, first_block, blocks, out);
  };
  if (d.kind == DistributionKind::kUniform) return fill(UniformMap<Simd>(d));
  if (d.kind == DistributionKind::kTwoPoint) return fill(TwoPointMap<Simd>(d));
  if (d.table_f32.symmetric) {
    if (d.bounded) return fill(QuantileMap<Simd, true, true>(d));
    return fill(QuantileMap<Simd, true, false>(d));
  }
  return fill(QuantileMap<Simd, false, true>(d));
}

template <typename Simd>
void words_kernel(uint64_t key, uint64_t first_block, size_t blocks, uint32_t* out) {
  fill_blocks<Simd>(NoMap{}, key, first_block, blocks, out);
}

template <typename Simd>
void values_f32_kernel(const Distribution& distribution, uint64_t key, uint64_t first_block,
                       size_t blocks, float* out, bool stream) {
  // Where the high half of the block number changes, `out` may lose its alignment.
  const bool same_high = (first_block >> 32) == ((first_block + blocks) >> 32);
  if (stream && same_high) {
    values_f32_by_kind<Simd, true>(distribution, key, first_block, blocks, out);
  } else {
    values_f32_by_kind<Simd, false>(distribution, key, first_block, blocks, out);
  }
}

// Words in wide registers, values one by one: float64 weights are rare.
template <typename Simd>
void values_f64_kernel(const Distribution& distribution, uint64_t key, uint64_t first_block,
                       size_t blocks, double* out) {
  constexpr size_t kStageBlocks = 128;
  alignas(64) uint32_t words[kStageBlocks * kWordsPerBlock];
  while (blocks > 0) {
    const size_t n = blocks < kStageBlocks ? blocks : kStageBlocks;
    words_kernel<Simd>(key, first_block, n, words);
    for (size_t i = 0; i < 2 * n; ++i) {
      *out++ = value_from_words(words[2 * i], words[2 * i + 1], distribution);
    }
    first_block += n;
    blocks -= n;
  }
}

template <typename Simd, bool kStream>
TI_HOST_DEVICE size_t round_wide(DType dtype, const float* in, size_t n, uint16_t* out) {
  constexpr size_t kStep = 2 * Simd::kLanes;
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    const auto first = Simd::load(in + i);
    const auto second = Simd::load(in + i + Simd::kLanes);
    if (dtype == DType::kBFloat16) {
      Simd::template store<kStream>(out + i, Simd::to_bfloat16(first, second));
    } else {
      Simd::template store<kStream>(out + i, Simd::to_float16(first, second));
    }
  }
  if constexpr (kStream) Simd::fence();
  return i;
}

template <typename Simd>
void round_kernel(DType dtype, const float* in, size_t n, void* out, bool stream) {
  size_t done = 0;
  if (dtype == DType::kBFloat16 || dtype == DType::kFloat16) {
    uint16_t* halves = static_cast<uint16_t*>(out);
    done = stream ? round_wide<Simd, true>(dtype, in, n, halves)
                  : round_wide<Simd, false>(dtype, in, n, halves);
  }
  for (; done < n; ++done) store_rounded(dtype, out, static_cast<int64_t>(done), in[done]);
}

}  // namespace torch_init
