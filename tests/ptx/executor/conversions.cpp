// SPDX-License-Identifier: Apache-2.0
//
// cvt and mov between registers of different widths.
#include <algorithm>
#include <cmath>
#include <limits>

#include "compare.h"

namespace ptx {
namespace {

template <typename To, typename From>
To convert(From x) {
  return static_cast<To>(x);
}

enum class Round { kToZero, kNearest, kDown, kUp };

template <Round kRound, typename T>
T whole_number(T x) {
  if (kRound == Round::kNearest) return std::nearbyint(x);
  if (kRound == Round::kDown) return std::floor(x);
  return kRound == Round::kUp ? std::ceil(x) : std::trunc(x);
}

// What is too large becomes the largest, what is no number 0.
template <typename To, typename From, Round kRound>
To to_integer(From x) {
  if (!(x == x)) return 0;
  const From whole = whole_number<kRound>(x);
  const From end = std::ldexp(From{1}, std::numeric_limits<To>::digits);
  if (whole >= end) return std::numeric_limits<To>::max();
  if (whole < (std::numeric_limits<To>::is_signed ? -end : From{0})) {
    return std::numeric_limits<To>::min();
  }
  return static_cast<To>(whole);
}

// A binary format with a sign: kExponent and kMantissa bits. Nearest, ties to even.
template <int kExponent, int kMantissa>
struct Format {
  static constexpr int kBias = (1 << (kExponent - 1)) - 1;
  static constexpr uint32_t kSign = 1u << (kExponent + kMantissa);
  static constexpr uint32_t kInfinity = ((1u << kExponent) - 1) << kMantissa;

  // Of a finite number; what is too large has more bits than there are.
  static uint32_t magnitude(double x) {
    const int exponent = x == 0 ? 1 - kBias : std::max(std::ilogb(x), 1 - kBias);
    const double steps = std::nearbyint(std::ldexp(std::fabs(x), kMantissa - exponent));
    // A subnormal has no leading bit; a carry goes on into the exponent.
    const auto above = static_cast<uint32_t>(exponent + kBias - 1) << kMantissa;
    return above + static_cast<uint32_t>(steps);
  }
  static uint32_t sign(float x) { return std::signbit(x) ? kSign : 0; }
};

uint32_t half_code(float x) {
  using F = Format<5, 10>;
  if (!(x == x)) return 0x7fff;
  if (std::isinf(x)) return F::sign(x) | F::kInfinity;
  return F::sign(x) | std::min(F::magnitude(x), F::kInfinity);
}
uint32_t bfloat_code(float x) {
  using F = Format<8, 7>;
  if (!(x == x)) return 0x7fff;
  if (std::isinf(x)) return F::sign(x) | F::kInfinity;
  return F::sign(x) | std::min(F::magnitude(x), F::kInfinity);
}
// `satfinite`: what is too large becomes the largest finite number.
template <int kExponent, int kMantissa>
uint32_t float8_code(float x, uint32_t largest) {
  using F = Format<kExponent, kMantissa>;
  if (!(x == x)) return 0x7f;
  if (std::isinf(x)) return F::sign(x) | largest;
  return F::sign(x) | std::min(F::magnitude(x), largest);
}
uint32_t e4m3_code(float x) { return float8_code<4, 3>(x, 0x7e); }
uint32_t e5m2_code(float x) { return float8_code<5, 2>(x, 0x7b); }

// The first argument is the upper half.
template <uint32_t (*kCode)(float), int kBits>
uint32_t pair(float upper, float lower) {
  return kCode(upper) << kBits | kCode(lower);
}
template <uint32_t (*kCode)(float)>
uint16_t single(float x) {
  return static_cast<uint16_t>(kCode(x));
}
float from_bfloat(uint16_t code) { return from_register<float>(static_cast<uint32_t>(code) << 16); }
float from_half(uint16_t code) {
  const int exponent = code >> 10 & 31;
  const int mantissa = code & 1023;
  float x = std::ldexp(static_cast<float>(mantissa + (exponent != 0 ? 1024 : 0)),
                       std::max(exponent, 1) - 25);
  if (exponent == 31) {
    x = mantissa != 0 ? from_register<float>(0x7fffffffu) : std::numeric_limits<float>::infinity();
  }
  return code & 0x8000 ? -x : x;
}

// Two numbers of 16 bits in a word, each by itself.
template <uint16_t (*kFunction)(uint16_t, uint16_t)>
uint32_t by_halves(uint32_t a, uint32_t b) {
  const uint32_t upper = kFunction(static_cast<uint16_t>(a >> 16), static_cast<uint16_t>(b >> 16));
  return upper << 16 | kFunction(static_cast<uint16_t>(a), static_cast<uint16_t>(b));
}
template <bool kMin, bool kRelu>
uint16_t least_s16(uint16_t a, uint16_t b) {
  const auto x = static_cast<int16_t>(a), y = static_cast<int16_t>(b);
  const int16_t chosen = kMin == (x < y) ? x : y;
  return static_cast<uint16_t>(kRelu && chosen < 0 ? 0 : chosen);
}
uint16_t add_u16(uint16_t a, uint16_t b) { return static_cast<uint16_t>(a + b); }
// The one that is a number; -0 is less than +0.
template <float (*kValue)(uint16_t), bool kMin>
uint16_t least_half(uint16_t a, uint16_t b) {
  const float x = kValue(a), y = kValue(b);
  if (x != x && y != y) return 0x7fff;
  if (x != x || y != y) return x != x ? b : a;
  const bool less = x < y || (x == y && (a & 0x8000) > (b & 0x8000));
  return less == kMin ? a : b;
}
template <float (*kValue)(uint16_t)>
uint16_t min_xorsign_abs(uint16_t a, uint16_t b) {
  const uint16_t least = least_half<kValue, true>(a & 0x7fff, b & 0x7fff);
  return static_cast<uint16_t>(least | ((a ^ b) & 0x8000));
}

template <typename From>
void add_from_integer(Table& table, const std::string& type) {
  table["cvt.u8." + type] = each<convert<uint8_t, From>>;
  table["cvt.s8." + type] = each<convert<int8_t, From>>;
  table["cvt.u16." + type] = each<convert<uint16_t, From>>;
  table["cvt.s16." + type] = each<convert<int16_t, From>>;
  table["cvt.u32." + type] = each<convert<uint32_t, From>>;
  table["cvt.s32." + type] = each<convert<int32_t, From>>;
  table["cvt.u64." + type] = each<convert<uint64_t, From>>;
  table["cvt.s64." + type] = each<convert<int64_t, From>>;
  table["cvt.rn.f32." + type] = each<convert<float, From>>;
  table["cvt.rn.f64." + type] = each<convert<double, From>>;
}

template <typename From, Round kRound>
void add_to_integer(Table& table, const std::string& round, const std::string& type) {
  table["cvt." + round + ".u32." + type] = each<to_integer<uint32_t, From, kRound>>;
  table["cvt." + round + ".s32." + type] = each<to_integer<int32_t, From, kRound>>;
  table["cvt." + round + ".u64." + type] = each<to_integer<uint64_t, From, kRound>>;
  table["cvt." + round + ".s64." + type] = each<to_integer<int64_t, From, kRound>>;
}

// mov.b64 %rd, {%r1, %r2} and back: the first is the lowest.
template <int kParts, int kBits>
void pack(Warp& warp, const Instruction& instruction, Mask mask) {
  for (int lane = 0; lane < kLanes; ++lane) {
    if (!(mask >> lane & 1)) continue;
    uint64_t whole = 0;
    for (int i = 0; i < kParts; ++i) {
      const uint64_t part = warp.row(instruction.operands[static_cast<size_t>(1 + i)])[lane];
      whole |= (part & ((uint64_t{1} << kBits) - 1)) << (kBits * i);
    }
    warp.row(instruction.operands[0])[lane] = whole;
  }
}
template <int kParts, int kBits>
void unpack(Warp& warp, const Instruction& instruction, Mask mask) {
  for (int lane = 0; lane < kLanes; ++lane) {
    if (!(mask >> lane & 1)) continue;
    const uint64_t whole = warp.row(instruction.operands[kParts])[lane];
    for (int i = 0; i < kParts; ++i) {
      warp.row(instruction.operands[static_cast<size_t>(i)])[lane] =
          whole >> (kBits * i) & ((uint64_t{1} << kBits) - 1);
    }
  }
}

Table conversions() {
  Table table;
  add_from_integer<uint8_t>(table, "u8");
  add_from_integer<int8_t>(table, "s8");
  add_from_integer<uint16_t>(table, "u16");
  add_from_integer<int16_t>(table, "s16");
  add_from_integer<uint32_t>(table, "u32");
  add_from_integer<int32_t>(table, "s32");
  add_from_integer<uint64_t>(table, "u64");
  add_from_integer<int64_t>(table, "s64");
  add_to_integer<float, Round::kToZero>(table, "rzi", "f32");
  add_to_integer<double, Round::kToZero>(table, "rzi", "f64");
  add_to_integer<float, Round::kNearest>(table, "rni", "f32");
  add_to_integer<double, Round::kNearest>(table, "rni", "f64");
  add_to_integer<float, Round::kDown>(table, "rmi", "f32");
  add_to_integer<float, Round::kUp>(table, "rpi", "f32");
  table["cvt.f64.f32"] = each<convert<double, float>>;
  table["cvt.rn.f32.f64"] = each<convert<float, double>>;
  table["cvt.f32.bf16"] = each<from_bfloat>;
  table["cvt.f32.f16"] = each<from_half>;
  table["cvt.rn.bf16.f32"] = each<single<bfloat_code>>;
  table["cvt.rn.f16.f32"] = each<single<half_code>>;
  table["cvt.rn.bf16x2.f32"] = each<pair<bfloat_code, 16>>;
  table["cvt.rn.f16x2.f32"] = each<pair<half_code, 16>>;
  table["cvt.rn.satfinite.e4m3x2.f32"] = each<pair<e4m3_code, 8>>;
  table["cvt.rn.satfinite.e5m2x2.f32"] = each<pair<e5m2_code, 8>>;
  table["add.s16x2"] = table["add.u16x2"] = each<by_halves<add_u16>>;
  table["min.s16x2"] = each<by_halves<least_s16<true, false>>>;
  table["max.s16x2"] = each<by_halves<least_s16<false, false>>>;
  table["min.s16x2.relu"] = table["min.relu.s16x2"] = each<by_halves<least_s16<true, true>>>;
  table["min.bf16x2"] = each<by_halves<least_half<from_bfloat, true>>>;
  table["max.bf16x2"] = each<by_halves<least_half<from_bfloat, false>>>;
  table["min.f16x2"] = each<by_halves<least_half<from_half, true>>>;
  table["max.f16x2"] = each<by_halves<least_half<from_half, false>>>;
  table["min.xorsign.abs.bf16x2"] = each<by_halves<min_xorsign_abs<from_bfloat>>>;
  table["min.xorsign.abs.f16x2"] = each<by_halves<min_xorsign_abs<from_half>>>;
  table["pack2.b64"] = pack<2, 32>;
  table["pack4.b64"] = pack<4, 16>;
  table["pack2.b32"] = pack<2, 16>;
  table["unpack2.b64"] = unpack<2, 32>;
  table["unpack4.b64"] = unpack<4, 16>;
  table["unpack2.b32"] = unpack<2, 16>;
  return table;
}

}  // namespace

bool decode_conversion(Instruction* instruction) {
  static const Table table = conversions();
  return look_up(table, instruction);
}

}  // namespace ptx
