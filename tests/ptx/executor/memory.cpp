// SPDX-License-Identifier: Apache-2.0
#include "memory.h"

#include <algorithm>

namespace ptx {
namespace {

constexpr uint32_t kLanesOfWarp = 32;  // of a block of whole warps

std::string who(uint32_t thread, const Place& place) {
  if (thread == kEarlierKernel) return "a kernel launched before, which may still run";
  const auto threads = static_cast<uint32_t>(place.threads);
  return "thread " + std::to_string(thread % threads) + " of block " +
         std::to_string(thread / threads);
}

// Whether something has happened before what a thread does now.
bool is_before(const Trace& trace, bool was_read, uint32_t thread, const Clock& clock,
               const Place& place) {
  if (trace.thread == kNobody || trace.thread == thread) return true;
  if (trace.thread == kEarlierKernel) return clock.is_alone;
  const auto threads = static_cast<uint32_t>(place.threads);
  if (trace.thread / threads == thread / threads) {
    if (trace.time.block < clock.known.block) return true;
    const bool in_warp = trace.thread / kLanesOfWarp == thread / kLanesOfWarp;
    return in_warp && (trace.time.warp < clock.known.warp ||
                       (was_read && trace.time.exchange < clock.known.exchange));
  }
  const auto is_seen = [&](const std::map<uint32_t, uint16_t>& times, uint32_t number) {
    const auto found = times.find(number);
    return found != times.end() && trace.time.block < found->second;
  };
  if (is_seen(clock.seen.blocks, trace.thread / threads) ||
      is_seen(clock.seen.threads, trace.thread)) {
    return true;
  }
  const uint32_t of_cluster = threads * static_cast<uint32_t>(place.cluster_size);
  return trace.thread / of_cluster == thread / of_cluster &&
         trace.time.cluster < clock.known.cluster;
}

void add_reader(Cell& cell, const Trace& trace, const Place& place) {
  const auto block = [&](const Trace& t) {
    return t.thread / static_cast<uint32_t>(place.threads);
  };
  Trace& last = cell.reader[0];
  if (last.thread != trace.thread && last.thread != kNobody) {
    if (block(last) != block(trace)) cell.reader[2] = last;
    cell.reader[1] = last;
  }
  last = trace;
}

struct Mistake {
  const char* what = nullptr;
  uint32_t thread = kNobody;
};

Mistake note_use_of_cell(Cell& cell, Use how, const Trace& trace, const Clock& clock,
                         const Place& place) {
  const auto missed = [&](const Trace& other, bool was_read) {
    return !is_before(other, was_read, trace.thread, clock, place);
  };
  if (cell.pending) return {"race: a copy is under way there, of ", cell.writer.thread};
  const bool both_atomic = how == Use::kAtomic && cell.atomic;
  if (!both_atomic && missed(cell.writer, false)) {
    return {"race: no barrier since it was written by ", cell.writer.thread};
  }
  const bool reads = how == Use::kRead || how == Use::kAtomic;
  if (reads && !cell.defined) return {"nothing was written there"};
  if (how == Use::kRead) {
    add_reader(cell, trace, place);
    return {};
  }
  for (const Trace& reader : cell.reader) {
    if (missed(reader, true)) return {"race: no barrier since it was read by ", reader.thread};
  }
  // A thread's own operation does not hide from others what it wrote just before.
  const bool is_hiding = !cell.atomic && cell.writer.thread == trace.thread &&
                         cell.writer.time.block == trace.time.block &&
                         cell.writer.time.warp == trace.time.warp;
  cell.writer = trace;
  cell.atomic = how == Use::kAtomic && !is_hiding;
  cell.pending = how == Use::kCopy;
  cell.defined = true;
  return {};
}

}  // namespace

void Published::add(const Published& other) {
  for (const auto& [block, time] : other.blocks) blocks[block] = std::max(blocks[block], time);
  for (const auto& [thread, time] : other.threads) {
    threads[thread] = std::max(threads[thread], time);
  }
}

void Segment::begin_kernel(bool early) {
  const auto renamed = [&](const Trace& trace) {
    return Trace{early && trace.thread != kNobody ? kEarlierKernel : kNobody, {}};
  };
  for (Cell& cell : cells) {
    cell.writer = renamed(cell.writer);
    for (Trace& reader : cell.reader) reader = renamed(reader);
    cell.atomic = false;
  }
}

std::string note_use(Segment& segment, uint64_t address, int bytes, Use how, uint32_t thread,
                     const Clock& clock, const Place& place) {
  const Trace trace = {thread, clock.now};
  Cell* const cells = &segment.cells[address - segment.begin];
  for (int i = 0; i < bytes; ++i) {
    const Mistake mistake = note_use_of_cell(cells[i], how, trace, clock, place);
    if (mistake.what == nullptr) continue;
    if (mistake.thread == kNobody) return mistake.what;
    return mistake.what + who(mistake.thread, place);
  }
  return "";
}

void note_arrival(Segment& segment, uint64_t address, int bytes, uint32_t thread,
                  const Clock& clock) {
  Cell* const cells = &segment.cells[address - segment.begin];
  for (int i = 0; i < bytes; ++i) {
    cells[i].pending = false;
    cells[i].writer = {thread, clock.now};
  }
}

void GlobalMemory::add(uint64_t address, uint64_t size, bool defined) {
  if (size == 0) return;
  Segment segment;
  segment.begin = address;
  uint64_t end = address + size;
  // What overlaps becomes one.
  auto it = segments_.upper_bound(end - 1);
  std::vector<Segment> old;
  while (it != segments_.begin()) {
    --it;
    if (it->second.begin + it->second.size <= address) break;
    segment.begin = std::min(segment.begin, it->second.begin);
    end = std::max(end, it->second.begin + it->second.size);
    old.push_back(std::move(it->second));
    it = segments_.erase(it);
  }
  segment.size = end - segment.begin;
  segment.bytes = reinterpret_cast<uint8_t*>(segment.begin);
  segment.cells.resize(segment.size);
  for (uint64_t i = address; i < address + size; ++i) {
    segment.cells[i - segment.begin].defined = defined;
  }
  for (const Segment& part : old) {
    for (uint64_t i = 0; i < part.size; ++i) {
      segment.cells[part.begin - segment.begin + i].defined |= part.cells[i].defined;
    }
  }
  segments_[segment.begin] = std::move(segment);
}

void GlobalMemory::begin_kernel(bool early) {
  left_.clear();
  for (auto& [begin, segment] : segments_) segment.begin_kernel(early);
}

Segment* GlobalMemory::find(uint64_t address, uint64_t count) {
  auto it = segments_.upper_bound(address);
  if (it == segments_.begin()) return nullptr;
  --it;
  return it->second.holds(address, count) ? &it->second : nullptr;
}

}  // namespace ptx
