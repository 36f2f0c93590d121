// SPDX-License-Identifier: Apache-2.0
//
// Integers, bits and predicates of single lanes, as the PTX ISA defines them.
#include <limits>
#include <type_traits>

#include "compare.h"

namespace ptx {
namespace {

template <typename T>
using Wide = std::conditional_t<
    sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>,
    std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>,
                       std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>>>;

// Integers wrap around: computed without a sign.
template <typename T>
T add(T a, T b) {
  using U = std::make_unsigned_t<T>;
  return static_cast<T>(static_cast<U>(static_cast<U>(a) + static_cast<U>(b)));
}
template <typename T>
T sub(T a, T b) {
  using U = std::make_unsigned_t<T>;
  return static_cast<T>(static_cast<U>(static_cast<U>(a) - static_cast<U>(b)));
}
template <typename T>
T mul_lo(T a, T b) {
  return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}
template <typename T>
T mul_hi(T a, T b) {
  return static_cast<T>((static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b)) >> (8 * sizeof(T)));
}
template <typename T>
Wide<T> mul_wide(T a, T b) {
  return static_cast<Wide<T>>(static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b));
}
template <typename T>
T mad_lo(T a, T b, T c) {
  return add<T>(mul_lo<T>(a, b), c);
}
template <typename T>
T mad_hi(T a, T b, T c) {
  return add<T>(mul_hi<T>(a, b), c);
}
template <typename T>
Wide<T> mad_wide(T a, T b, Wide<T> c) {
  return add<Wide<T>>(mul_wide<T>(a, b), c);
}
template <typename T>
bool overflows(T a, T b) {
  return std::is_signed_v<T> && a == std::numeric_limits<T>::min() && b == static_cast<T>(-1);
}
// A division by zero is not specified: all ones.
template <typename T>
T div(T a, T b) {
  if (b == 0) return static_cast<T>(-1);
  return overflows(a, b) ? a : static_cast<T>(a / b);
}
template <typename T>
T rem(T a, T b) {
  if (b == 0) return static_cast<T>(-1);
  return overflows(a, b) ? T{0} : static_cast<T>(a % b);
}
template <typename T>
T min(T a, T b) {
  return a < b ? a : b;
}
template <typename T>
T max(T a, T b) {
  return a > b ? a : b;
}
template <typename T>
T neg(T a) {
  return sub<T>(0, a);
}
template <typename T>
T abs(T a) {
  return a < 0 ? neg<T>(a) : a;
}
template <typename T>
T and_(T a, T b) {
  return static_cast<T>(a & b);
}
template <typename T>
T or_(T a, T b) {
  return static_cast<T>(a | b);
}
template <typename T>
T xor_(T a, T b) {
  return static_cast<T>(a ^ b);
}
template <typename T>
T not_(T a) {
  return static_cast<T>(~a);
}
// Shifts by more than the width shift everything out.
template <typename T>
T shl(T a, uint32_t n) {
  return n < 8 * sizeof(T) ? static_cast<T>(static_cast<uint64_t>(a) << n) : T{0};
}
template <typename T>
T shr(T a, uint32_t n) {
  constexpr uint32_t kMost = 8 * sizeof(T) - 1;
  if (n > kMost && !std::is_signed_v<T>) return 0;
  return static_cast<T>(a >> (n > kMost ? kMost : n));
}

bool not_pred(bool a) { return !a; }
bool and_pred(bool a, bool b) { return a && b; }
bool or_pred(bool a, bool b) { return a || b; }
bool xor_pred(bool a, bool b) { return a != b; }

int32_t min_relu(int32_t a, int32_t b) { return max<int32_t>(min<int32_t>(a, b), 0); }

template <typename T>
T bfi(T a, T b, uint32_t position, uint32_t length) {
  const uint32_t p = position & 255, n = length & 255;
  const T ones = n >= 8 * sizeof(T) ? static_cast<T>(-1) : static_cast<T>(shl<T>(1, n) - 1);
  const T field = shl<T>(ones, p);
  return static_cast<T>((shl<T>(a, p) & field) | (b & static_cast<T>(~field)));
}
template <typename T>
T bfe(T a, uint32_t position, uint32_t length) {
  constexpr int kBits = 8 * sizeof(T);
  const int p = static_cast<int>(position & 255), n = static_cast<int>(length & 255);
  const auto bit = [&](int i) { return i < kBits ? static_cast<uint64_t>(a) >> i & 1 : 0; };
  if (n == 0) return 0;
  const int last = p + n - 1 < kBits - 1 ? p + n - 1 : kBits - 1;
  uint64_t out = 0;
  for (int i = 0; i < kBits; ++i) {
    const bool inside = i < n && p + i < kBits;
    out |= (inside ? bit(p + i) : std::is_signed_v<T> ? bit(last) : 0) << i;
  }
  return static_cast<T>(out);
}
template <typename T>
uint32_t popc(T a) {
  return static_cast<uint32_t>(__builtin_popcountll(a));
}
template <typename T>
uint32_t clz(T a) {
  constexpr uint32_t kBits = 8 * sizeof(T);
  return a == 0 ? kBits : static_cast<uint32_t>(__builtin_clzll(a)) - (64 - kBits);
}
template <typename T>
T brev(T a) {
  T out = 0;
  for (uint32_t i = 0; i < 8 * sizeof(T); ++i) {
    if (a >> i & 1) out = static_cast<T>(out | T{1} << (8 * sizeof(T) - 1 - i));
  }
  return out;
}
uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t choice = selector >> (4 * i) & 15;
    const auto byte = static_cast<uint8_t>(bytes >> (8 * (choice & 7)));
    out |= static_cast<uint32_t>(choice & 8 ? (byte & 0x80 ? 0xff : 0) : byte) << (8 * i);
  }
  return out;
}
uint32_t lop3(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
  uint32_t out = 0;
  for (int i = 0; i < 32; ++i) {
    const uint32_t at = (a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1);
    out |= (table >> at & 1) << i;
  }
  return out;
}
template <bool kWrap>
uint32_t shf_l(uint32_t a, uint32_t b, uint32_t c) {
  const uint32_t n = kWrap ? c & 31 : min<uint32_t>(c, 32);
  return static_cast<uint32_t>((static_cast<uint64_t>(b) << 32 | a) << n >> 32);
}
template <bool kWrap>
uint32_t shf_r(uint32_t a, uint32_t b, uint32_t c) {
  const uint32_t n = kWrap ? c & 31 : min<uint32_t>(c, 32);
  return static_cast<uint32_t>((static_cast<uint64_t>(b) << 32 | a) >> n);
}

template <typename T>
void add_bits(Table& table, const std::string& type) {
  table["and." + type] = each<and_<T>>;
  table["or." + type] = each<or_<T>>;
  table["xor." + type] = each<xor_<T>>;
  table["not." + type] = each<not_<T>>;
  table["shl." + type] = each<shl<T>>;
  table["shr." + type] = each<shr<T>>;
}

template <typename T>
void add_integer(Table& table, const std::string& type) {
  add_any<T>(table, type);
  table["add." + type] = each<add<T>>;
  table["sub." + type] = each<sub<T>>;
  table["mul.lo." + type] = each<mul_lo<T>>;
  table["mul.hi." + type] = each<mul_hi<T>>;
  table["mad.lo." + type] = each<mad_lo<T>>;
  table["mad.hi." + type] = each<mad_hi<T>>;
  table["div." + type] = each<div<T>>;
  table["rem." + type] = each<rem<T>>;
  table["min." + type] = each<min<T>>;
  table["max." + type] = each<max<T>>;
  table["shr." + type] = each<shr<T>>;
  if constexpr (sizeof(T) < 8) {
    table["mul.wide." + type] = each<mul_wide<T>>;
    table["mad.wide." + type] = each<mad_wide<T>>;
  }
  if constexpr (std::is_signed_v<T>) {
    table["neg." + type] = each<neg<T>>;
    table["abs." + type] = each<abs<T>>;
  }
}

Table integers() {
  Table table;
  add_integer<uint16_t>(table, "u16");
  add_integer<int16_t>(table, "s16");
  add_integer<uint32_t>(table, "u32");
  add_integer<int32_t>(table, "s32");
  add_integer<uint64_t>(table, "u64");
  add_integer<int64_t>(table, "s64");
  add_any<uint16_t>(table, "b16");
  add_any<uint32_t>(table, "b32");
  add_any<uint64_t>(table, "b64");
  add_bits<uint16_t>(table, "b16");
  add_bits<uint32_t>(table, "b32");
  add_bits<uint64_t>(table, "b64");
  table["mov.pred"] = each<move<bool>>;
  table["not.pred"] = each<not_pred>;
  table["and.pred"] = each<and_pred>;
  table["or.pred"] = each<or_pred>;
  table["xor.pred"] = each<xor_pred>;
  table["bfi.b32"] = each<bfi<uint32_t>>;
  table["bfi.b64"] = each<bfi<uint64_t>>;
  table["bfe.u32"] = each<bfe<uint32_t>>;
  table["bfe.s32"] = each<bfe<int32_t>>;
  table["bfe.u64"] = each<bfe<uint64_t>>;
  table["bfe.s64"] = each<bfe<int64_t>>;
  table["popc.b32"] = each<popc<uint32_t>>;
  table["popc.b64"] = each<popc<uint64_t>>;
  table["clz.b32"] = each<clz<uint32_t>>;
  table["clz.b64"] = each<clz<uint64_t>>;
  table["brev.b32"] = each<brev<uint32_t>>;
  table["brev.b64"] = each<brev<uint64_t>>;
  table["prmt.b32"] = each<prmt>;
  table["lop3.b32"] = each<lop3>;
  table["min.relu.s32"] = table["min.s32.relu"] = each<min_relu>;
  table["shf.l.wrap.b32"] = each<shf_l<true>>;
  table["shf.l.clamp.b32"] = each<shf_l<false>>;
  table["shf.r.wrap.b32"] = each<shf_r<true>>;
  table["shf.r.clamp.b32"] = each<shf_r<false>>;
  return table;
}

}  // namespace

bool decode_integer(Instruction* instruction) {
  static const Table table = integers();
  return look_up(table, instruction);
}

}  // namespace ptx
