// SPDX-License-Identifier: Apache-2.0
//
// Loads, stores, atomic operations, copies in the background, and addresses.
#include <algorithm>
#include <cstring>
#include <limits>
#include <set>
#include <sstream>

#include "each_lane.h"

namespace ptx {
namespace {

template <typename Function>
void for_each_lane(Mask mask, const Function& function) {
  for (int lane = 0; lane < kLanes; ++lane) {
    if (mask >> lane & 1) function(lane);
  }
}

uint64_t read_element(const uint8_t* bytes, const Access& access) {
  uint64_t value = 0;
  std::memcpy(&value, bytes, static_cast<size_t>(access.bytes));
  const int unused = 64 - 8 * access.bytes;
  return access.is_signed ? static_cast<uint64_t>(static_cast<int64_t>(value << unused) >> unused)
                          : value;
}

// Vectors first, then a row and a number that make the address.
void load(Warp& warp, const Instruction& i, Mask mask) {
  const auto elements = static_cast<size_t>(i.access.elements);
  const uint64_t* const base = warp.row(i.operands[elements]);
  const auto offset = static_cast<uint64_t>(int64_t{i.operands[elements + 1]});
  for_each_lane(mask, [&](int lane) {
    const int bytes = i.access.bytes * i.access.elements;
    const uint8_t* const at = use(warp, i, lane, base[lane] + offset, bytes, Use::kRead);
    uint64_t value[4];
    for (size_t k = 0; k < elements; ++k) {
      value[k] = read_element(at + k * static_cast<size_t>(i.access.bytes), i.access);
    }
    for (size_t k = 0; k < elements; ++k) warp.row(i.operands[k])[lane] = value[k];
  });
}

void load_parameter(Warp& warp, const Instruction& i, Mask mask) {
  const auto elements = static_cast<size_t>(i.access.elements);
  const std::vector<uint8_t>& parameters = warp.block->cluster->parameters;
  for_each_lane(mask, [&](int lane) {
    const auto bytes = static_cast<uint64_t>(i.access.bytes) * elements;
    const uint64_t at = warp.row(i.operands[elements])[lane] +
                        static_cast<uint64_t>(int64_t{i.operands[elements + 1]});
    if (at > parameters.size() || bytes > parameters.size() - at) {
      fail(warp, i, lane, "beyond the kernel's parameters: byte " + std::to_string(at));
    }
    if (at % bytes != 0) fail(warp, i, lane, "not aligned");
    for (size_t k = 0; k < elements; ++k) {
      const uint8_t* const from = &parameters[at + k * static_cast<size_t>(i.access.bytes)];
      warp.row(i.operands[k])[lane] = read_element(from, i.access);
    }
  });
}

void store(Warp& warp, const Instruction& i, Mask mask) {
  const uint64_t* const base = warp.row(i.operands[0]);
  const auto offset = static_cast<uint64_t>(int64_t{i.operands[1]});
  for_each_lane(mask, [&](int lane) {
    const int bytes = i.access.bytes * i.access.elements;
    uint8_t* const at = use(warp, i, lane, base[lane] + offset, bytes, Use::kWrite);
    for (int k = 0; k < i.access.elements; ++k) {
      std::memcpy(at + k * i.access.bytes, &warp.row(i.operands[static_cast<size_t>(2 + k)])[lane],
                  static_cast<size_t>(i.access.bytes));
    }
  });
}

template <typename T>
T combined(const std::string& operation, T a, T b) {
  if (operation == "add") return static_cast<T>(a + b);
  if (operation == "min") return a < b ? a : b;
  if (operation == "max") return a > b ? a : b;
  if (operation == "exch") return b;
  if constexpr (std::is_integral_v<T>) {
    if (operation == "and") return a & b;
    if (operation == "or") return a | b;
    if (operation == "xor") return a ^ b;
  }
  throw std::runtime_error("PTX: no atomic " + operation);
}

uint64_t combined(const Access& access, uint64_t a, uint64_t b) {
  const auto as = [&](auto type) {
    using T = decltype(type);
    return to_register<T>(combined<T>(access.operation, from_register<T>(a), from_register<T>(b)));
  };
  if (access.type == "f32") return as(float{});
  if (access.type == "f64") return as(double{});
  if (access.type == "s32") return as(int32_t{});
  if (access.type == "s64") return as(int64_t{});
  return access.bytes == 4 ? as(uint32_t{}) : as(uint64_t{});
}

// Leaves at an address what this thread's fences have published, and takes what others left.
void exchange_at(Warp& warp, int lane, uint64_t address) {
  const Block& block = *warp.block;
  Clock& clock = warp.clock;
  Published own = clock.seen;
  const bool since_barrier = clock.fenced > clock.known.block;
  const uint16_t of_block = std::max(block.fenced, since_barrier ? clock.known.block : uint16_t{0});
  if (of_block > 0) own.blocks[static_cast<uint32_t>(block.index)] = of_block;
  if (clock.fenced > 0) own.threads[thread_of(warp, lane)] = clock.fenced;
  Published& left = block.cluster->global->left_at(address);
  left.add(own);
  clock.taken.add(left);
}

void fence(Warp& warp, const Instruction&, Mask) { warp.clock.pass_fence(); }

// atom: out, address, b, and c of a compare and swap. red: the same without out.
template <bool kReturns>
void atomic(Warp& warp, const Instruction& i, Mask mask) {
  constexpr size_t kFirst = kReturns ? 1 : 0;
  for_each_lane(mask, [&](int lane) {
    const auto operand = [&](size_t k) { return warp.row(i.operands[kFirst + k])[lane]; };
    const uint64_t address = operand(0) + static_cast<uint64_t>(int64_t{i.operands[kFirst + 1]});
    uint8_t* const at = use(warp, i, lane, address, i.access.bytes, Use::kAtomic);
    if (i.access.space != Space::kShared) exchange_at(warp, lane, address);
    const uint64_t before = read_element(at, i.access);
    uint64_t after = 0;
    if (i.access.operation == "cas") {
      Access unsigned_access = i.access;
      unsigned_access.is_signed = false;
      const uint64_t mask_of_type = i.access.bytes == 4 ? 0xffffffffu : ~uint64_t{0};
      const bool same = (read_element(at, unsigned_access) ^ operand(2)) & mask_of_type;
      after = same ? before : operand(3);
    } else {
      after = combined(i.access, before, operand(2));
    }
    std::memcpy(at, &after, static_cast<size_t>(i.access.bytes));
    if (kReturns) warp.row(i.operands[0])[lane] = before;
  });
}

// cp.async [to], [from], bytes: arrives when it is waited for, and not before.
void copy(Warp& warp, const Instruction& i, Mask mask) {
  Instruction to = i;
  to.access.space = Space::kShared;
  Instruction from = i;
  from.access.space = Space::kGlobal;
  const int bytes = i.operands[4];
  for_each_lane(mask, [&](int lane) {
    const auto address = [&](size_t k) {
      return warp.row(i.operands[k])[lane] + static_cast<uint64_t>(int64_t{i.operands[k + 1]});
    };
    const uint8_t* const source = use(warp, from, lane, address(2), bytes, Use::kRead);
    use(warp, to, lane, address(0), bytes, Use::kCopy);
    warp.copies.push_back({lane, warp.open_group[lane], address(0), {source, source + bytes}});
  });
}

void end_group(Warp& warp, const Instruction&, Mask mask) {
  for_each_lane(mask, [&](int lane) { ++warp.open_group[lane]; });
}

// Lets what belongs to groups before `first_pending` arrive.
void arrive(Warp& warp, int lane, int first_pending) {
  std::vector<Copy> pending;
  for (Copy& copy : warp.copies) {
    if (copy.lane != lane || copy.group >= first_pending) {
      pending.push_back(std::move(copy));
      continue;
    }
    Segment& shared = warp.block->shared;
    std::memcpy(shared.bytes + (copy.to - shared.begin), copy.bytes.data(), copy.bytes.size());
    note_arrival(shared, copy.to, static_cast<int>(copy.bytes.size()), thread_of(warp, lane),
                 warp.clock);
  }
  warp.copies = std::move(pending);
}

void wait_group(Warp& warp, const Instruction& i, Mask mask) {
  for_each_lane(mask, [&](int lane) { arrive(warp, lane, warp.open_group[lane] - i.operands[0]); });
}

void wait_all(Warp& warp, const Instruction&, Mask mask) {
  for_each_lane(mask, [&](int lane) { arrive(warp, lane, std::numeric_limits<int>::max()); });
}

uint64_t to_global(uint64_t address) { return address; }
uint64_t local_to_generic(uint64_t address) { return address + kLocalWindow; }
uint64_t generic_to_local(uint64_t address) { return address - kLocalWindow; }

void shared_to_generic(Warp& warp, const Instruction& i, Mask mask) {
  const auto rank = static_cast<uint64_t>(warp.block->rank);
  for_each_lane(mask, [&](int lane) {
    warp.row(i.operands[0])[lane] =
        warp.row(i.operands[1])[lane] + kSharedWindow + rank * kWindowSize;
  });
}

void generic_to_shared(Warp& warp, const Instruction& i, Mask mask) {
  for_each_lane(mask, [&](int lane) {
    warp.row(i.operands[0])[lane] = (warp.row(i.operands[1])[lane] - kSharedWindow) % kWindowSize;
  });
}

// mapa: what has in block `rank` the place that an address has in its own.
void map_to_block(Warp& warp, const Instruction& i, Mask mask) {
  for_each_lane(mask, [&](int lane) {
    const uint64_t address = warp.row(i.operands[1])[lane];
    const uint64_t rank = static_cast<uint32_t>(warp.row(i.operands[2])[lane]);
    if (address < kSharedWindow) fail(warp, i, lane, "no address of shared memory");
    warp.row(i.operands[0])[lane] =
        kSharedWindow + rank * kWindowSize + (address - kSharedWindow) % kWindowSize;
  });
}

int bytes_of(const std::string& type) {
  const std::string digits = type.size() > 1 ? type.substr(1) : "";
  if (digits == "8") return 1;
  if (digits == "16") return 2;
  if (digits == "32") return 4;
  return digits == "64" ? 8 : 0;
}

// The parts of a name between full stops.
std::vector<std::string> parts_of(const std::string& name) {
  std::vector<std::string> parts;
  std::istringstream in(name);
  for (std::string part; std::getline(in, part, '.');) parts.push_back(part);
  return parts;
}

// Reads "ld.global.cs.v4.u32" and its like; false if a part means something else.
bool read_access(const std::vector<std::string>& parts, Access* access) {
  // How long a cache keeps it, and which threads see an atomic operation: no matter here.
  static const std::set<std::string> ignored = {"cs",      "cg",  "ca",      "cv",   "lu",
                                                "wb",      "wt",  "nc",      "weak", "volatile",
                                                "relaxed", "cta", "cluster", "gpu",  "sys"};
  for (size_t k = 1; k + 1 < parts.size(); ++k) {
    const std::string& part = parts[k];
    if (part == "global")
      access->space = Space::kGlobal;
    else if (part == "shared" || part == "shared::cta")
      access->space = Space::kShared;
    else if (part == "local")
      access->space = Space::kLocal;
    else if (part == "param")
      access->space = Space::kParameter;
    else if (part == "v2")
      access->elements = 2;
    else if (part == "v4")
      access->elements = 4;
    else if (parts[0] == "atom" || parts[0] == "red") {
      if (ignored.count(part) == 0) access->operation = part;
    } else if (ignored.count(part) == 0)
      return false;
  }
  access->type = parts.back();
  access->bytes = bytes_of(access->type);
  access->is_signed = access->type[0] == 's';
  return access->bytes != 0;
}

}  // namespace

bool decode_access(Instruction* instruction) {
  static const std::map<std::string, Execute> exact = {
      {"membar.gl", fence},
      {"fence.acq_rel.gpu", fence},
      {"fence.sc.gpu", fence},
      {"cp.async.cg.shared.global", copy},
      {"cp.async.ca.shared.global", copy},
      {"cp.async.commit_group", end_group},
      {"cp.async.wait_group", wait_group},
      {"cp.async.wait_all", wait_all},
      {"cvta.to.global.u64", each<to_global>},
      {"cvta.global.u64", each<to_global>},
      {"cvta.local.u64", each<local_to_generic>},
      {"cvta.to.local.u64", each<generic_to_local>},
      {"cvta.shared.u64", shared_to_generic},
      {"cvta.to.shared.u64", generic_to_shared},
      {"mapa.u64", map_to_block}};
  const auto found = exact.find(instruction->name);
  if (found != exact.end()) {
    instruction->execute = found->second;
    return true;
  }
  const std::vector<std::string> parts = parts_of(instruction->name);
  static const std::map<std::string, Execute> kinds = {
      {"ld", load}, {"st", store}, {"atom", atomic<true>}, {"red", atomic<false>}};
  const auto kind = kinds.find(parts[0]);
  if (kind == kinds.end() || !read_access(parts, &instruction->access)) return false;
  const bool is_parameter = instruction->access.space == Space::kParameter;
  if (is_parameter && parts[0] != "ld") return false;
  instruction->execute = is_parameter ? load_parameter : kind->second;
  return true;
}

}  // namespace ptx
