// SPDX-License-Identifier: Apache-2.0
//
// What integers and floating-point numbers have in common: moves, choices and comparisons.
#pragma once

#include <map>

#include "each_lane.h"

namespace ptx {

using Table = std::map<std::string, Execute>;

// How an instruction of a table is executed; false if it is not in it.
inline bool look_up(const Table& table, Instruction* instruction) {
  const auto found = table.find(instruction->name);
  if (found == table.end()) return false;
  instruction->execute = found->second;
  return true;
}

template <typename T>
T move(T a) {
  return a;
}
template <typename T>
T select(T a, T b, bool p) {
  return p ? a : b;
}
template <typename T>
bool eq(T a, T b) {
  return a == b;
}
template <typename T>
bool lt(T a, T b) {
  return a < b;
}
template <typename T>
bool le(T a, T b) {
  return a <= b;
}
template <typename T>
bool gt(T a, T b) {
  return a > b;
}
template <typename T>
bool ge(T a, T b) {
  return a >= b;
}
// Of numbers: false if one is none.
template <typename T>
bool ne(T a, T b) {
  return a < b || a > b;
}
template <typename T>
void add_any(Table& table, const std::string& type) {
  table["mov." + type] = each<move<T>>;
  table["selp." + type] = each<select<T>>;
  table["setp.eq." + type] = each<eq<T>>;
  table["setp.ne." + type] = each<ne<T>>;
  table["setp.lt." + type] = table["setp.lo." + type] = each<lt<T>>;
  table["setp.le." + type] = table["setp.ls." + type] = each<le<T>>;
  table["setp.gt." + type] = table["setp.hi." + type] = each<gt<T>>;
  table["setp.ge." + type] = table["setp.hs." + type] = each<ge<T>>;
}

}  // namespace ptx
