// SPDX-License-Identifier: Apache-2.0
//
// The inner loops of the CUDA fill kernel: whole tiles of one task whose memory is dense and
// aligned, the path of almost every element. What does not change within a loop is a template
// argument, and each thread stores 16 bytes at a time.
//
// tools/check_sass.py counts the instructions of every loop against tools/sass_budget.json.
#pragma once

#include "fill/pack.h"
#include "fill/staged_table.h"
#include "fill/task.h"
#include "random/philox.h"

namespace torch_init {

constexpr int kGroupsPerThread = 4;
constexpr int64_t kTileGroups = int64_t{kFillThreads} * kGroupsPerThread;
constexpr int kStoreBytes = 16;

// What a loop makes of a block's four words. Each maker has its dtype, and writes as many words as
// an element has bytes.

template <DType kDType>
struct MakeUniform {
  static constexpr DType kOut = kDType;
  ValueMap<float> map;
  Pack<kDType, Clamp::kRange> pack;

  TI_HOST_DEVICE_MEMBER explicit MakeUniform(const Distribution& d) : map(d.f32), pack(d.f32) {}

  TI_HOST_DEVICE_MEMBER void operator()(const PhiloxBlock& words, uint32_t* out) const {
    float value[4];
    for (int i = 0; i < 4; ++i) {
      const float u = static_cast<float>(static_cast<int32_t>(words.word[i] & 0x00ffffffu));
      // Never -0: a multiple of the smallest subnormal, rounded from +0 if it is 0.
      value[i] = fma_rn(u, map.scale, map.location);
    }
    pack(value, out);
  }
};

template <DType kDType, Clamp kClamp>
struct MakeQuantile {
  static constexpr DType kOut = kDType;
  ValueMap<float> map;
  StagedRows rows;
  Pack<kDType, kClamp> pack;

  TI_HOST_DEVICE_MEMBER MakeQuantile(const Distribution& d, const StagedRows& staged)
      : map(d.f32), rows(staged), pack(d.f32) {}

  TI_HOST_DEVICE_MEMBER void operator()(const PhiloxBlock& words, uint32_t* out) const {
    float value[4];
    for (int i = 0; i < 4; ++i) {
      value[i] = fma_rn(rows.quantile(words.word[i]), map.scale, map.location);
    }
    pack(value, out);
  }
};

// Calls use(make) with what makes a distribution's values from words and a table.
template <DType kDType, typename Use>
TI_HOST_DEVICE void with_maker(const Distribution& d, const StagedRows& rows, const Use& use) {
  if (d.kind == DistributionKind::kUniform) return use(MakeUniform<kDType>(d));
  if (!d.bounded) return use(MakeQuantile<kDType, Clamp::kNone>(d, rows));
  if (d.f32.high > 0.0f && d.f32.low == -d.f32.high) {
    return use(MakeQuantile<kDType, Clamp::kMagnitude>(d, rows));
  }
  use(MakeQuantile<kDType, Clamp::kRange>(d, rows));
}

// One of two codes: the two values, rounded beforehand. kDType says no more than their size.
template <DType kDType>
struct MakeTwoPoint {
  static constexpr DType kOut = kDType;
  uint32_t threshold;
  uint32_t below;
  uint32_t above;

  TI_HOST_DEVICE_MEMBER void operator()(const PhiloxBlock& words, uint32_t* out) const {
    constexpr int kPerWord = 4 / static_cast<int>(element_size(kDType));
    for (int i = 0; i < 4 / kPerWord; ++i) {
      out[i] = 0;
      for (int j = 0; j < kPerWord; ++j) {
        const uint32_t code = words.word[i * kPerWord + j] < threshold ? below : above;
        out[i] |= code << (32 / kPerWord * j);
      }
    }
  }
};

struct MakeBits {
  static constexpr DType kOut = DType::kFloat32;

  TI_HOST_DEVICE_MEMBER void operator()(const PhiloxBlock& words, uint32_t* out) const {
    for (int i = 0; i < 4; ++i) out[i] = words.word[i];
  }
};

// 16 bytes in one store. nvcc would split a struct's into single words; __stcs also says that the
// lines need not stay in the cache.
TI_HOST_DEVICE void store_words(char* at, const uint32_t word[4]) {
#if defined(__CUDA_ARCH__)
  __stcs(reinterpret_cast<uint4*>(at), make_uint4(word[0], word[1], word[2], word[3]));
#else
  memcpy(at, word, kStoreBytes);
#endif
}

// Consecutive tiles that are whole, dense and aligned. The numbers of their Philox blocks agree in
// the upper half, so that what it decides of the first two rounds is computed once.
struct WholeTiles {
  uint64_t key;
  uint64_t first_block;
  char* at;
  int32_t count;
};

template <typename Make>
TI_HOST_DEVICE void fill_tiles(const WholeTiles& tiles, int thread, const Make& make) {
  constexpr int kSize = static_cast<int>(element_size(Make::kOut));
  constexpr int kGroupsPerStore = 4 / kSize;
  constexpr int kStores = kGroupsPerThread / kGroupsPerStore;
  const uint64_t upper = tiles.first_block & 0xffffffff00000000u;
  uint32_t lower =
      static_cast<uint32_t>(tiles.first_block) + static_cast<uint32_t>(thread * kGroupsPerStore);
  char* at = tiles.at + thread * kStoreBytes;
  for (int32_t tile = 0; tile < tiles.count; ++tile) {
#pragma unroll
    for (int s = 0; s < kStores; ++s) {
      uint32_t words[4];
      for (int g = 0; g < kGroupsPerStore; ++g) {
        const uint32_t group = static_cast<uint32_t>(s * kFillThreads * kGroupsPerStore + g);
        make(stream_block(tiles.key, upper | (lower + group)), words + g * kSize);
      }
      store_words(at + s * kFillThreads * kStoreBytes, words);
    }
    lower += static_cast<uint32_t>(kTileGroups);
    at += kTileGroups * 4 * kSize;
  }
}

TI_HOST_DEVICE void fill_tiles_constant(const WholeTiles& tiles, int thread, int64_t size,
                                        uint32_t word) {
  const uint32_t words[4] = {word, word, word, word};
  char* at = tiles.at + thread * kStoreBytes;
  const int64_t stores = tiles.count * kGroupsPerThread * size / 4;
#pragma unroll 4
  for (int64_t i = 0; i < stores; ++i) store_words(at + i * kFillThreads * kStoreBytes, words);
}

template <DType kDType>
TI_HOST_DEVICE void fill_rounded_tiles(const Distribution& d, const WholeTiles& tiles, int thread,
                                       const StagedRows& rows) {
  with_maker<kDType>(d, rows, [&](const auto& make) { fill_tiles(tiles, thread, make); });
}

template <DType kDType>
TI_HOST_DEVICE void fill_two_point_tiles(const Distribution& d, DType dtype,
                                         const WholeTiles& tiles, int thread) {
  fill_tiles(
      tiles, thread,
      MakeTwoPoint<kDType>{d.threshold, code_of(dtype, d.f32.high), code_of(dtype, d.f32.low)});
}

// A thread's share of the tiles.
TI_HOST_DEVICE void fill_whole_tiles(const FillTask& task, const WholeTiles& tiles, int thread,
                                     const StagedRows& rows) {
  const Distribution& d = task.distribution;
  const DType dtype = task.dtype;
  const int64_t size = element_size(dtype);
  switch (d.kind) {
    case DistributionKind::kConstant: {
      const uint32_t code = code_of(dtype, d.f32.location);
      const uint32_t word = size == 4 ? code : size == 2 ? code * 0x10001u : code * 0x1010101u;
      return fill_tiles_constant(tiles, thread, size, word);
    }
    case DistributionKind::kTwoPoint:
      if (size == 4) return fill_two_point_tiles<DType::kFloat32>(d, dtype, tiles, thread);
      if (size == 2) return fill_two_point_tiles<DType::kFloat16>(d, dtype, tiles, thread);
      return fill_two_point_tiles<DType::kFloat8E5M2>(d, dtype, tiles, thread);
    case DistributionKind::kBits:
      return fill_tiles(tiles, thread, MakeBits{});
    default:
      break;
  }
  switch (dtype) {
    case DType::kBFloat16:
      return fill_rounded_tiles<DType::kBFloat16>(d, tiles, thread, rows);
    case DType::kFloat16:
      return fill_rounded_tiles<DType::kFloat16>(d, tiles, thread, rows);
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
    case DType::kFloat8E4M3FN:
      return fill_rounded_tiles<DType::kFloat8E4M3FN>(d, tiles, thread, rows);
    case DType::kFloat8E5M2:
      return fill_rounded_tiles<DType::kFloat8E5M2>(d, tiles, thread, rows);
#endif
    default:
      return fill_rounded_tiles<DType::kFloat32>(d, tiles, thread, rows);
  }
}

}  // namespace torch_init
