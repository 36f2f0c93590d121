// SPDX-License-Identifier: Apache-2.0
//
// A function of one lane's values as an instruction: its result goes to the first operand, its
// arguments are the others.
#pragma once

#include <cstring>
#include <utility>

#include "machine.h"

namespace ptx {

template <int kBytes>
struct UnsignedOf;
template <>
struct UnsignedOf<1> {
  using Type = uint8_t;
};
template <>
struct UnsignedOf<2> {
  using Type = uint16_t;
};
template <>
struct UnsignedOf<4> {
  using Type = uint32_t;
};
template <>
struct UnsignedOf<8> {
  using Type = uint64_t;
};

template <typename T>
T from_register(uint64_t bits) {
  if constexpr (std::is_floating_point_v<T>) {
    const auto narrow = static_cast<typename UnsignedOf<sizeof(T)>::Type>(bits);
    T value;
    std::memcpy(&value, &narrow, sizeof value);
    return value;
  } else {
    return static_cast<T>(bits);
  }
}

template <typename T>
uint64_t to_register(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    typename UnsignedOf<sizeof(T)>::Type bits;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
  } else {
    return static_cast<uint64_t>(value);
  }
}

template <auto kFunction>
struct Lanes;

template <typename Result, typename... Arguments, Result (*kFunction)(Arguments...)>
struct Lanes<kFunction> {
  template <size_t... k>
  static void run(Warp& warp, const Instruction& instruction, Mask mask,
                  std::index_sequence<k...>) {
    uint64_t* const out = warp.row(instruction.operands[0]);
    const uint64_t* const in[] = {warp.row(instruction.operands[1 + k])...};
    Row result;
    for (int lane = 0; lane < kLanes; ++lane) {
      result.lane[lane] = to_register<Result>(kFunction(from_register<Arguments>(in[k][lane])...));
    }
    if (mask == kAll) {
      std::memcpy(out, result.lane, sizeof result);
      return;
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      if (mask >> lane & 1) out[lane] = result.lane[lane];
    }
  }
};

template <auto kFunction>
struct Each;

template <typename Result, typename... Arguments, Result (*kFunction)(Arguments...)>
struct Each<kFunction> {
  static void run(Warp& warp, const Instruction& instruction, Mask mask) {
    Lanes<kFunction>::run(warp, instruction, mask, std::index_sequence_for<Arguments...>{});
  }
};

template <auto kFunction>
constexpr Execute each = Each<kFunction>::run;

}  // namespace ptx
