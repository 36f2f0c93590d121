// SPDX-License-Identifier: Apache-2.0
//
// Memory that keeps, of each byte, who wrote it and who read it last. Two uses of a byte by two
// threads, one of them a write, must have a barrier of both threads in between.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ptx {

enum class Space { kGeneric, kGlobal, kShared, kLocal, kParameter };
enum class Use { kRead, kWrite, kAtomic, kCopy };

// Addresses of shared memory begin here: 0 would hide a forgotten address. So do, in the generic
// space, the windows of the blocks of a cluster.
constexpr uint64_t kSharedBase = 1024;
constexpr uint64_t kSharedWindow = uint64_t{1} << 62;
constexpr uint64_t kLocalWindow = uint64_t{1} << 61;
constexpr uint64_t kWindowSize = uint64_t{1} << 24;

// When something happened: barriers that a thread had come to, of its block or its cluster, of its
// cluster only, and of its warp; and what its warp had exchanged.
struct Time {
  uint16_t block = 0;
  uint16_t cluster = 0;
  uint16_t warp = 0;
  uint16_t exchange = 0;
};

// What fences have made known to other blocks: of a block, or a thread, what it did before a time.
struct Published {
  std::map<uint32_t, uint16_t> blocks;
  std::map<uint32_t, uint16_t> threads;

  void add(const Published& other);
};

// What a thread does next carries the time `now`; what others did before `known` has happened.
struct Clock {
  Time now;
  Time known;
  uint16_t arrived = 0;  // now.block of the last arrival at the cluster's barrier
  // Whether kernels launched before have ended: not, at first, if this one was launched early.
  bool is_alone = true;
  uint16_t fenced = 0;  // what this warp did before this time, by now.block, every block can know
  Published seen;       // known for certain
  Published taken;      // by atomic operations: known after a fence

  // Nobody goes on before all have been there: a lane that reads first has read when another
  // writes after. What is written first need not be seen after.
  void exchange() { known.exchange = ++now.exchange; }
  void pass_warp_barrier() {
    exchange();
    known.warp = ++now.warp;
  }
  void pass_fence() {
    fenced = ++now.block;
    seen.add(taken);
  }
  void pass_barrier(uint16_t time) { known.block = now.block = time; }
  void arrive_at_cluster() {
    arrived = ++now.block;
    ++now.cluster;
  }
  void leave_cluster() {
    if (known.block < arrived) known.block = arrived;
    known.cluster = now.cluster;
  }
};

struct Place {
  int threads = 1;       // of a block
  int cluster_size = 1;  // in blocks
};

constexpr uint32_t kNobody = 0xffffffffu;
constexpr uint32_t kEarlierKernel = 0xfffffffeu;

struct Trace {
  uint32_t thread = kNobody;  // of the grid
  Time time;
};

struct Cell {
  Trace writer;
  bool atomic = false;  // how it was written
  bool pending = false;
  bool defined = false;
  // The last, the last but one, and the last of another block than the last.
  Trace reader[3];
};

// Memory of one owner.
struct Segment {
  uint64_t begin = 0;
  uint64_t size = 0;
  uint8_t* bytes = nullptr;
  std::vector<Cell> cells;
  std::vector<uint8_t> own;  // the bytes, unless they are somebody else's

  bool holds(uint64_t address, uint64_t count) const {
    return address >= begin && count <= size && address - begin <= size - count;
  }
  // A kernel begins: early, when those before it may not have ended.
  void begin_kernel(bool early);
};

// What a use of bytes does wrong, or an empty text.
std::string note_use(Segment& segment, uint64_t address, int bytes, Use how, uint32_t thread,
                     const Clock& clock, const Place& place);
// A copy that has arrived is its thread's write.
void note_arrival(Segment& segment, uint64_t address, int bytes, uint32_t thread,
                  const Clock& clock);

// Memory that kernels were told of, by the address of its first byte.
class GlobalMemory {
 public:
  void add(uint64_t address, uint64_t size, bool defined);
  void clear() { segments_.clear(); }
  void begin_kernel(bool early);
  // What atomic operations on an address have left there.
  Published& left_at(uint64_t address) { return left_[address]; }
  Segment* find(uint64_t address, uint64_t count);

 private:
  std::map<uint64_t, Segment> segments_;
  std::map<uint64_t, Published> left_;
};

}  // namespace ptx
