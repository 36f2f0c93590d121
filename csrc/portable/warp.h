// SPDX-License-Identifier: Apache-2.0
//
// A CUDA warp as an object: 32 lanes that each keep variables of their own and do two things
// together, multiply small integer matrices on the tensor cores and combine words. On the device
// a lane's variables are registers; the host keeps those of all lanes and loops.
#pragma once

#include <stdint.h>

#include "portable/portable.h"

namespace torch_init {

constexpr int kWarpLanes = 32;

// Of a product D[16][8] += A[16][32] B[32][8] of bytes in 32-bit integers that wrap around, lane
// 4 g + t holds (PTX ISA, "Matrix Fragments for mma.m16n8k32"), each register four bytes:
//
//     A  rows g, g + 8, g, g + 8; columns 4 t ... 4 t + 3, twice, and 16 further, twice
//     B  rows 4 t ... 4 t + 3 and 16 further; column g
//     D  rows g, g, g + 8, g + 8; columns 2 t, 2 t + 1, 2 t, 2 t + 1
//
// B's bytes are unsigned, A's are signed or not.
struct HostWarp {
  // T value[kCount] of each lane.
  template <typename T, int kCount>
  struct Lanes {
    static constexpr int kOfLane = kCount;
    T* of(int lane) { return value[lane]; }
    const T* of(int lane) const { return value[lane]; }
    T value[kWarpLanes][kCount];
  };

  int index;

  template <typename Function>
  void for_each_lane(const Function& function) const {
    for (int lane = 0; lane < kWarpLanes; ++lane) function(lane);
  }

  // What lanes wrote to memory before, others may read after.
  void barrier() const {}

  // b and d begin at `first_b` and `first_d` of what a lane has.
  template <bool kSigned, int kB, int kD>
  void multiply_add(const Lanes<uint32_t, 4>& a, const Lanes<uint32_t, kB>& b, int first_b,
                    Lanes<int32_t, kD>* d, int first_d) const {
    int16_t a_matrix[16][32];
    uint8_t b_matrix[8][32];  // transposed
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      const int g = lane / 4;
      const int t = lane % 4;
      for (int i = 0; i < 16; ++i) {
        const auto byte = static_cast<uint8_t>(a.of(lane)[i / 4] >> (8 * (i % 4)));
        a_matrix[g + 8 * (i / 4 % 2)][4 * t + i % 4 + 16 * (i / 8)] =
            kSigned ? static_cast<int8_t>(byte) : byte;
      }
      for (int i = 0; i < 8; ++i) {
        const uint32_t byte = b.of(lane)[first_b + i / 4] >> (8 * (i % 4));
        b_matrix[g][4 * t + i % 4 + 16 * (i / 4)] = static_cast<uint8_t>(byte);
      }
    }
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const int16_t* const row = a_matrix[lane / 4 + 8 * (i / 2)];
        const uint8_t* const column = b_matrix[2 * (lane % 4) + i % 2];
        int32_t sum = 0;
        for (int k = 0; k < 32; ++k) sum += row[k] * column[k];
        int32_t* const out = d->of(lane) + first_d + i;
        *out = static_cast<int32_t>(static_cast<uint32_t>(*out) + static_cast<uint32_t>(sum));
      }
    }
  }

  // Gives lanes 4 g + t of all g the bits that any of them has.
  template <int kCount>
  void or_among_rows(Lanes<uint32_t, kCount>* words) const {
    for (int t = 0; t < 4; ++t) {
      for (int i = 0; i < kCount; ++i) {
        uint32_t all = 0;
        for (int lane = t; lane < kWarpLanes; lane += 4) all |= words->of(lane)[i];
        for (int lane = t; lane < kWarpLanes; lane += 4) words->of(lane)[i] = all;
      }
    }
  }

  // Gives lane 4 g + t the bits that word g of any lane 4 g' + t has, as its word 0; the others are
  // used up.
  void or_among_rows_to_own(Lanes<uint32_t, 8>* words) const {
    or_among_rows(words);
    for (int lane = 0; lane < kWarpLanes; ++lane) words->of(lane)[0] = words->of(lane)[lane / 4];
  }
};

#if defined(__CUDACC__)
struct DeviceWarp {
  template <typename T, int kCount>
  struct Lanes {
    static constexpr int kOfLane = kCount;
    __device__ __forceinline__ T* of(int) { return value; }
    __device__ __forceinline__ const T* of(int) const { return value; }
    T value[kCount];
  };

  int index;

  template <typename Function>
  __device__ __forceinline__ void for_each_lane(const Function& function) const {
    function(static_cast<int>(threadIdx.x) % kWarpLanes);
  }

  __device__ __forceinline__ void barrier() const { __syncwarp(); }

  template <bool kSigned, int kB, int kD>
  __device__ __forceinline__ void multiply_add(const Lanes<uint32_t, 4>& a,
                                               const Lanes<uint32_t, kB>& b, int first_b,
                                               Lanes<int32_t, kD>* d, int first_d) const {
    int32_t* const sum = d->value + first_d;
    const uint32_t* const row = a.value;
    const uint32_t* const column = b.value + first_b;
    if constexpr (kSigned) {
      asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32 "
          "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
          : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
          : "r"(row[0]), "r"(row[1]), "r"(row[2]), "r"(row[3]), "r"(column[0]), "r"(column[1]));
    } else {
      asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32 "
          "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
          : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
          : "r"(row[0]), "r"(row[1]), "r"(row[2]), "r"(row[3]), "r"(column[0]), "r"(column[1]));
    }
  }

  template <int kCount>
  __device__ __forceinline__ void or_among_rows(Lanes<uint32_t, kCount>* words) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
#pragma unroll
      for (int step = 4; step < kWarpLanes; step *= 2) {
        words->value[i] |= __shfl_xor_sync(0xffffffffu, words->value[i], step);
      }
    }
  }

  __device__ __forceinline__ void or_among_rows_to_own(Lanes<uint32_t, 8>* words) const {
    uint32_t* const word = words->value;
#pragma unroll
    for (int half = 4; half > 0; half /= 2) {
      const bool upper = (threadIdx.x & (4 * half)) != 0;
#pragma unroll
      for (int i = 0; i < half; ++i) {
        const uint32_t kept = upper ? word[i + half] : word[i];
        const uint32_t sent = upper ? word[i] : word[i + half];
        word[i] = kept | __shfl_xor_sync(0xffffffffu, sent, 4 * half);
      }
    }
  }
};
#endif

}  // namespace torch_init
