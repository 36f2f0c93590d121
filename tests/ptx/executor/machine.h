// SPDX-License-Identifier: Apache-2.0
//
// A machine that executes PTX on the host: registers, instructions, warps, blocks, clusters, and
// memory that knows who has used it. The first mistake of a kernel ends its launch: see `fail`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory.h"

namespace ptx {

constexpr int kLanes = 32;
using Mask = uint32_t;  // of lanes
constexpr Mask kAll = 0xffffffffu;

// A register of a warp. Values are sign-extended or zero-extended, as their type says.
struct Row {
  uint64_t lane[kLanes];
};

// What the first rows hold, in this order, before a warp starts.
enum Special {
  kThread,
  kBlockThreads,
  kBlockIndex,
  kBlockCount,
  kLane,
  kClusterIndex,
  kBlockInCluster,
  kBlocksOfCluster,
  kSpecials
};

struct Warp;
struct Instruction;
using Execute = void (*)(Warp&, const Instruction&, Mask);

enum class Kind {
  kPlain,
  kBranch,
  kExit,
  // Lanes do these together.
  kTogether,
  kWarpBarrier,
  kWaitForKernels,
  kBarrier,
  kClusterArrive,
  kClusterWait
};

// What a load, store, atomic operation or copy does, as its name says.
struct Access {
  Space space = Space::kGeneric;
  int bytes = 0;  // of an element
  int elements = 1;
  bool is_signed = false;
  std::string operation;  // of an atomic one
  std::string type;
};

struct Instruction {
  std::string name;
  Kind kind = Kind::kPlain;
  Execute execute = nullptr;
  Access access;
  bool has_members = false;  // its last operand says which lanes do it together; else all do
  int guard = -1;            // the row of a predicate, if it has one
  bool guard_negated = false;
  int target = 0;
  std::vector<int> operands;  // rows, or numbers where the instruction wants one
  std::string text;
  std::string source;  // file:line
  mutable bool executed = false;
};

struct Constant {
  int row;
  uint64_t value;
};

struct Kernel {
  std::string name;
  std::vector<uint64_t> parameter_offsets;
  std::vector<uint64_t> parameter_sizes;
  uint64_t shared_size = 0;
  uint64_t local_size = 0;  // of a thread
  int rows = 0;
  std::vector<Constant> constants;
  std::vector<Instruction> code;
  std::vector<std::vector<Row>> registers;  // of warps that ran before, with the constants
};

// What a thread has asked to be copied to shared memory, and does not know to have arrived.
struct Copy {
  int lane;
  int group;
  uint64_t to;
  std::vector<uint8_t> bytes;
};

enum class State { kRuns, kAtBarrier, kAtCluster, kDone };

struct Block;

struct Warp {
  Block* block = nullptr;
  int index = 0;
  Row* rows = nullptr;
  uint32_t pc[kLanes] = {};
  Mask exited = 0;
  Mask waiting = 0;
  State state = State::kRuns;
  uint32_t barrier_pc = 0;
  Clock clock;
  std::vector<uint8_t> local;  // of a lane after the other
  std::vector<Copy> copies;
  int open_group[kLanes] = {};

  uint64_t* row(int number) { return rows[number].lane; }
  const std::vector<Instruction>& code() const;
};

struct Cluster;

struct Block {
  Cluster* cluster = nullptr;
  int index = 0;
  int rank = 0;
  uint16_t fenced = 0;  // what its threads did before this time, every block can know
  std::vector<Warp> warps;
  Segment shared;

  bool is_done() const;
};

struct Cluster {
  const Kernel* kernel = nullptr;
  GlobalMemory* global = nullptr;
  std::vector<uint8_t> parameters;
  int threads = 0;
  std::vector<Block> blocks;
};

struct Launch {
  uint64_t blocks = 1;
  uint64_t threads = 1;
  uint64_t cluster_size = 1;
  uint64_t dynamic_shared_size = 0;
  bool early = false;  // the kernel before may still run
  void** arguments = nullptr;
};

// Throws a std::runtime_error that says where, which thread and what.
[[noreturn]] void fail(const Warp& warp, const Instruction& instruction, int lane,
                       const std::string& what);

uint32_t thread_of(const Warp& warp, int lane);  // of the grid

// Where an access of a lane finds its bytes. Fails if they are not the kernel's to use, or were
// used by a thread that this one has not met since.
uint8_t* use(Warp& warp, const Instruction& instruction, int lane, uint64_t address, int bytes,
             Use how);

// What executes an instruction, and how it is grouped; fails for a name that is not known.
void decode(Instruction* instruction);
bool decode_integer(Instruction* instruction);
bool decode_float(Instruction* instruction);
bool decode_conversion(Instruction* instruction);
bool decode_access(Instruction* instruction);
bool decode_together(Instruction* instruction);

void run(Kernel& kernel, GlobalMemory& global, const Launch& launch, uint64_t seed);

}  // namespace ptx
