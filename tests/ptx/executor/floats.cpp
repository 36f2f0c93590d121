// SPDX-License-Identifier: Apache-2.0
//
// Floating-point arithmetic of single lanes, as the PTX ISA defines it: rounded to nearest, nothing
// flushed, nothing fused that is not written so.
#include <cmath>

#include "compare.h"

namespace ptx {
namespace {

template <typename T>
bool neu(T a, T b) {
  return !(a == b);
}
template <typename T>
bool equ(T a, T b) {
  return !ne(a, b);
}
template <typename T>
bool ltu(T a, T b) {
  return !(a >= b);
}
template <typename T>
bool leu(T a, T b) {
  return !(a > b);
}
template <typename T>
bool gtu(T a, T b) {
  return !(a <= b);
}
template <typename T>
bool geu(T a, T b) {
  return !(a < b);
}
template <typename T>
bool num(T a, T b) {
  return a == a && b == b;
}
template <typename T>
bool nan(T a, T b) {
  return !num(a, b);
}

// float32 results that are no number are all the same one.
template <typename T>
T canonical(T x) {
  if constexpr (sizeof(T) == 4) {
    const uint32_t bits = 0x7fffffffu;
    float none;
    std::memcpy(&none, &bits, sizeof none);
    return x == x ? x : none;
  }
  return x;
}
template <typename T>
T add_rn(T a, T b) {
  return canonical<T>(a + b);
}
template <typename T>
T sub_rn(T a, T b) {
  return canonical<T>(a - b);
}
template <typename T>
T mul_rn(T a, T b) {
  return canonical<T>(a * b);
}
template <typename T>
T fma_rn(T a, T b, T c) {
  return canonical<T>(std::fma(a, b, c));
}
template <typename T>
T div_rn(T a, T b) {
  return canonical<T>(a / b);
}
template <typename T>
T sqrt_rn(T a) {
  return canonical<T>(std::sqrt(a));
}
// The one that is a number; -0 is less than +0.
template <typename T>
T fmin(T a, T b) {
  if (!(a == a)) return canonical<T>(b);
  if (!(b == b)) return a;
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}
template <typename T>
T fmax(T a, T b) {
  if (!(a == a)) return canonical<T>(b);
  if (!(b == b)) return a;
  if (a == b) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}
template <typename T>
T fneg(T a) {
  return -a;
}
template <typename T>
T fabs(T a) {
  return std::fabs(a);
}

// The sign that a product would have.
template <typename T>
T min_xorsign_abs(T a, T b) {
  const T least = fmin<T>(std::fabs(a), std::fabs(b));
  return std::signbit(a) != std::signbit(b) ? -least : least;
}
template <typename T>
void add_float(Table& table, const std::string& type) {
  add_any<T>(table, type);
  table["add.rn." + type] = each<add_rn<T>>;
  table["sub.rn." + type] = each<sub_rn<T>>;
  table["mul.rn." + type] = each<mul_rn<T>>;
  table["fma.rn." + type] = each<fma_rn<T>>;
  table["div.rn." + type] = each<div_rn<T>>;
  table["sqrt.rn." + type] = each<sqrt_rn<T>>;
  table["min." + type] = each<fmin<T>>;
  table["max." + type] = each<fmax<T>>;
  table["neg." + type] = each<fneg<T>>;
  table["abs." + type] = each<fabs<T>>;
  table["setp.equ." + type] = each<equ<T>>;
  table["setp.neu." + type] = each<neu<T>>;
  table["setp.ltu." + type] = each<ltu<T>>;
  table["setp.leu." + type] = each<leu<T>>;
  table["setp.gtu." + type] = each<gtu<T>>;
  table["setp.geu." + type] = each<geu<T>>;
  table["setp.num." + type] = each<num<T>>;
  table["setp.nan." + type] = each<nan<T>>;
}

Table floats() {
  Table table;
  add_float<float>(table, "f32");
  add_float<double>(table, "f64");
  table["min.xorsign.abs.f32"] = each<min_xorsign_abs<float>>;
  return table;
}

}  // namespace

bool decode_float(Instruction* instruction) {
  static const Table table = floats();
  return look_up(table, instruction);
}

}  // namespace ptx
