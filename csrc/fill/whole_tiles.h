// SPDX-License-Identifier: Apache-2.0
//
// The inner loops of the CUDA fill kernel: whole tiles of one task whose memory is dense and
// aligned, the path of almost every element. What does not change within a loop is a template
// argument, and each thread stores 16 bytes at a time.
//
// tools/check_sass.py counts the instructions of every loop against tools/sass_budget.json.
#pragma once

#include "distributions/rounding.h"
#include "fill/staged_table.h"
#include "fill/task.h"
#include "random/philox.h"

namespace torch_init {

constexpr int kGroupsPerThread = 4;
constexpr int64_t kTileGroups = int64_t{kFillThreads} * kGroupsPerThread;
constexpr int kStoreBytes = 16;

// kMinMax is exact unless the lower bound is 0 and the value may be -0, which the maximum of both
// is not. No bound is -0 (lower.cpp).
enum class Clamp { kNone, kMinMax, kCompare };

template <Clamp kClamp>
TI_HOST_DEVICE float clamp_whole(float value, const ValueMap<float>& map) {
  if (kClamp == Clamp::kNone) return value;
#if defined(__CUDA_ARCH__)
  const float at_least = kClamp == Clamp::kMinMax ? fmaxf(value, map.low)
                         : value < map.low        ? map.low
                                                  : value;
  return fminf(at_least, map.high);
#else
  return clamp_value(value, map);
#endif
}

// Four numbers, rounded, in element_size(kDType) words. A GPU rounds two at once, which keeps
// subnormals and has other bits than the specification only for NaN and, in float8_e5m2, for what
// is too large: none of them gets here.
template <DType kDType>
TI_HOST_DEVICE void pack_values(const float value[4], uint32_t* out) {
#if defined(__CUDA_ARCH__)
  if (kDType == DType::kBFloat16 || kDType == DType::kFloat16) {
    for (int i = 0; i < 2; ++i) {
      if (kDType == DType::kBFloat16) {
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;"
            : "=r"(out[i])
            : "f"(value[2 * i + 1]), "f"(value[2 * i]));
      } else {
        asm("cvt.rn.f16x2.f32 %0, %1, %2;"
            : "=r"(out[i])
            : "f"(value[2 * i + 1]), "f"(value[2 * i]));
      }
    }
    return;
  }
  if (kDType == DType::kFloat8E4M3FN || kDType == DType::kFloat8E5M2) {
    uint16_t pair[2];
    for (int i = 0; i < 2; ++i) {
      if (kDType == DType::kFloat8E4M3FN) {
        asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;"
            : "=h"(pair[i])
            : "f"(value[2 * i + 1]), "f"(value[2 * i]));
      } else {
        asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;"
            : "=h"(pair[i])
            : "f"(value[2 * i + 1]), "f"(value[2 * i]));
      }
    }
    out[0] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
    return;
  }
#endif
  constexpr int kSize = static_cast<int>(element_size(kDType));
  memset(out, 0, 4 * kSize);
  for (int i = 0; i < 4; ++i) store_rounded(kDType, out, i, value[i]);
}

// What a loop makes of a block's four words. Each maker has its dtype, and writes as many words as
// an element has bytes.

template <DType kDType>
struct MakeUniform {
  static constexpr DType kOut = kDType;
  ValueMap<float> map;

  TI_HOST_DEVICE_MEMBER void operator()(const PhiloxBlock& words, uint32_t* out) const {
    float value[4];
    for (int i = 0; i < 4; ++i) {
      const float u = static_cast<float>(static_cast<int32_t>(words.word[i] & 0x00ffffffu));
      // Never -0: a multiple of the smallest subnormal, rounded from +0 if it is 0.
      value[i] = clamp_whole<Clamp::kMinMax>(fma_rn(u, map.scale, map.location), map);
    }
    pack_values<kDType>(value, out);
  }
};

template <DType kDType, bool kSymmetric, Clamp kClamp>
struct MakeQuantile {
  static constexpr DType kOut = kDType;
  ValueMap<float> map;
  StagedRows rows;

  TI_HOST_DEVICE_MEMBER void operator()(const PhiloxBlock& words, uint32_t* out) const {
    float value[4];
    for (int i = 0; i < 4; ++i) {
      const float q = table_quantile(words.word[i], kSymmetric, rows);
      value[i] = clamp_whole<kClamp>(fma_rn(q, map.scale, map.location), map);
    }
    pack_values<kDType>(value, out);
  }
};

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

// The value's code, repeated to fill a word.
TI_HOST_DEVICE uint32_t code_of(DType dtype, float value) {
  uint32_t word = 0;
  store_rounded(dtype, &word, 0, value);
  return word;
}

template <DType kDType>
TI_HOST_DEVICE void fill_quantile_tiles(const Distribution& d, const WholeTiles& tiles, int thread,
                                        const StagedRows& rows) {
  if (!d.table_f32.symmetric) {
    return fill_tiles(tiles, thread, MakeQuantile<kDType, false, Clamp::kCompare>{d.f32, rows});
  }
  if (!d.bounded) {
    return fill_tiles(tiles, thread, MakeQuantile<kDType, true, Clamp::kNone>{d.f32, rows});
  }
  if (d.f32.low != 0.0f) {
    return fill_tiles(tiles, thread, MakeQuantile<kDType, true, Clamp::kMinMax>{d.f32, rows});
  }
  return fill_tiles(tiles, thread, MakeQuantile<kDType, true, Clamp::kCompare>{d.f32, rows});
}

template <DType kDType>
TI_HOST_DEVICE void fill_rounded_tiles(const Distribution& d, const WholeTiles& tiles, int thread,
                                       const StagedRows& rows) {
  if (d.kind == DistributionKind::kUniform) {
    return fill_tiles(tiles, thread, MakeUniform<kDType>{d.f32});
  }
  return fill_quantile_tiles<kDType>(d, tiles, thread, rows);
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
