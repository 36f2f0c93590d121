// SPDX-License-Identifier: Apache-2.0
//
// Runs the blocks of a grid, a cluster of them at a time, whose warps take turns in an order drawn
// from a seed. Of a warp's lanes those that have come least far go on, until they meet the others.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "machine.h"

namespace ptx {

const std::vector<Instruction>& Warp::code() const { return block->cluster->kernel->code; }

bool Block::is_done() const {
  return std::all_of(warps.begin(), warps.end(),
                     [](const Warp& warp) { return warp.state == State::kDone; });
}

void fail(const Warp& warp, const Instruction& instruction, int lane, const std::string& what) {
  throw std::runtime_error(
      "PTX: " + what + "; thread " + std::to_string(warp.index * kLanes + lane) + " of block " +
      std::to_string(warp.block->index) + ", kernel " + warp.block->cluster->kernel->name + ", " +
      instruction.source + ": " + instruction.text);
}

namespace {

Mask lanes_with(const uint64_t* predicate, bool value) {
  Mask mask = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    if (((predicate[lane] & 1) != 0) == value) mask |= 1u << lane;
  }
  return mask;
}

int lowest(Mask mask) { return __builtin_ctz(mask); }

void set_pc(Warp& warp, Mask mask, uint32_t pc) {
  for (int lane = 0; lane < kLanes; ++lane) {
    if (mask >> lane & 1) warp.pc[lane] = pc;
  }
}

// What the lanes of a mask do together at an instruction; they go on after it.
void meet(Warp& warp, uint32_t pc, Mask mask) {
  const Instruction& i = warp.code()[pc];
  set_pc(warp, mask, pc + 1);
  warp.waiting &= ~mask;
  if (i.kind == Kind::kTogether) {
    i.execute(warp, i, mask);
    if (mask == ~warp.exited && i.has_members) warp.clock.exchange();
    return;
  }
  if (i.kind == Kind::kWaitForKernels) {
    warp.clock.is_alone = true;
    return;
  }
  if (i.kind == Kind::kWarpBarrier) {
    if (mask == ~warp.exited) warp.clock.pass_warp_barrier();
    return;
  }
  if (warp.exited != 0) fail(warp, i, lowest(warp.exited), "a barrier without a thread that ended");
  if (i.kind == Kind::kClusterArrive) {
    warp.clock.arrive_at_cluster();
    return;
  }
  warp.state = i.kind == Kind::kBarrier ? State::kAtBarrier : State::kAtCluster;
  warp.barrier_pc = pc;
}

// The lanes that an instruction wants together.
Mask members(Warp& warp, const Instruction& i, Mask arrived) {
  if (!i.has_members) return ~warp.exited;
  return static_cast<Mask>(warp.row(i.operands.back())[lowest(arrived)]);
}

// All lanes wait for others: lets those go on that are complete.
void meet_waiting(Warp& warp) {
  for (Mask rest = warp.waiting; rest != 0;) {
    const uint32_t pc = warp.pc[lowest(rest)];
    Mask arrived = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      if (rest >> lane & 1 && warp.pc[lane] == pc) arrived |= 1u << lane;
    }
    const Mask wanted = members(warp, warp.code()[pc], arrived);
    if ((wanted & ~arrived) == 0) return meet(warp, pc, wanted);
    rest &= ~arrived;
  }
  const int lane = lowest(warp.waiting);
  fail(warp, warp.code()[warp.pc[lane]], lane, "lanes of a warp wait for each other in two places");
}

// Runs lanes that are at one instruction, until they part, wait, or come to where others are.
void run_lanes(Warp& warp, uint32_t pc, Mask lanes, uint32_t others) {
  const std::vector<Instruction>& code = warp.code();
  while (pc < others) {
    const Instruction& i = code[pc];
    i.executed = true;
    Mask mask = lanes;
    if (i.guard >= 0) mask &= lanes_with(warp.row(i.guard), !i.guard_negated);
    switch (i.kind) {
      case Kind::kPlain:
        if (mask != 0) i.execute(warp, i, mask);
        ++pc;
        break;
      case Kind::kBranch:
        if (mask == 0) {
          ++pc;
        } else if (mask == lanes) {
          pc = static_cast<uint32_t>(i.target);
        } else {
          set_pc(warp, mask, static_cast<uint32_t>(i.target));
          return set_pc(warp, lanes & ~mask, pc + 1);
        }
        break;
      case Kind::kExit:
        warp.exited |= mask;
        lanes &= ~mask;
        if (lanes == 0) return;
        ++pc;
        break;
      default:
        if (mask != lanes) fail(warp, i, lowest(lanes & ~mask), "a predicate parts the lanes");
        set_pc(warp, lanes, pc);
        if (members(warp, i, lanes) == lanes) {
          meet(warp, pc, lanes);
          if (warp.state != State::kRuns) return;
          ++pc;
          break;
        }
        warp.waiting |= lanes;
        return;
    }
  }
  set_pc(warp, lanes, pc);
}

void run_warp(Warp& warp) {
  while (warp.state == State::kRuns) {
    const Mask ready = ~warp.exited & ~warp.waiting;
    if (ready == 0 && warp.waiting == 0) {
      // The kernel after may count on this one to end after those before.
      if (!warp.clock.is_alone)
        fail(warp, warp.code().back(), 0, "does not wait for kernels before");
      warp.state = State::kDone;
    } else if (ready == 0) {
      meet_waiting(warp);
    } else {
      uint32_t first = UINT32_MAX, next = UINT32_MAX;
      Mask lanes = 0;
      for (int lane = 0; lane < kLanes; ++lane) {
        if (ready >> lane & 1) first = std::min(first, warp.pc[lane]);
      }
      for (int lane = 0; lane < kLanes; ++lane) {
        if (!(ready >> lane & 1)) continue;
        if (warp.pc[lane] == first) {
          lanes |= 1u << lane;
        } else {
          next = std::min(next, warp.pc[lane]);
        }
      }
      run_lanes(warp, first, lanes, next);
    }
  }
}

// Lets a block pass its barrier, if all its warps are there.
bool pass_barrier(Block& block) {
  const Warp* first = nullptr;
  for (const Warp& warp : block.warps) {
    if (warp.state == State::kAtBarrier) first = &warp;
  }
  if (first == nullptr) return false;
  const Instruction& i = first->code()[first->barrier_pc];
  for (const Warp& warp : block.warps) {
    if (warp.state == State::kDone) fail(*first, i, 0, "a barrier that other warps do not reach");
    if (warp.state != State::kAtBarrier) return false;
    if (warp.barrier_pc != first->barrier_pc) {
      fail(*first, i, 0, "the warps of a block meet at different barriers");
    }
  }
  uint16_t time = 0, fenced = UINT16_MAX;
  Published seen, taken;
  for (const Warp& warp : block.warps) {
    time = std::max(time, warp.clock.now.block);
    const bool since = warp.clock.fenced > warp.clock.known.block;
    fenced = std::min<uint16_t>(fenced, since ? warp.clock.fenced : 0);
    seen.add(warp.clock.seen);
    taken.add(warp.clock.taken);
  }
  block.fenced = std::max(block.fenced, fenced);
  for (Warp& warp : block.warps) {
    warp.clock.pass_barrier(static_cast<uint16_t>(time + 1));
    warp.clock.seen = seen;
    warp.clock.taken = taken;
    warp.state = State::kRuns;
  }
  return true;
}

// Lets warps go on that wait for a cluster all of which has arrived.
bool leave_cluster(Cluster& cluster) {
  uint16_t arrived = UINT16_MAX;
  for (const Block& block : cluster.blocks) {
    for (const Warp& warp : block.warps) {
      if (warp.state != State::kDone) arrived = std::min(arrived, warp.clock.now.cluster);
    }
  }
  bool any = false;
  for (Block& block : cluster.blocks) {
    for (Warp& warp : block.warps) {
      if (warp.state != State::kAtCluster || warp.clock.now.cluster > arrived) continue;
      warp.clock.leave_cluster();
      warp.state = State::kRuns;
      any = true;
    }
  }
  return any;
}

template <typename T>
void shuffle(std::vector<T>& items, uint64_t* random) {
  for (size_t i = items.size(); i > 1; --i) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    std::swap(items[i - 1], items[(*random >> 33) % i]);
  }
}

void run_cluster(Cluster& cluster, uint64_t* random) {
  std::vector<Warp*> warps;
  for (Block& block : cluster.blocks) {
    for (Warp& warp : block.warps) warps.push_back(&warp);
  }
  for (bool goes_on = true; goes_on;) {
    goes_on = false;
    shuffle(warps, random);
    for (Warp* warp : warps) {
      if (warp->state != State::kRuns) continue;
      run_warp(*warp);
      goes_on = true;
    }
    for (Block& block : cluster.blocks) goes_on |= pass_barrier(block);
    goes_on |= leave_cluster(cluster);
  }
  for (const Warp* warp : warps) {
    if (warp->state == State::kDone) continue;
    fail(*warp, warp->code()[warp->barrier_pc], 0, "waits for what never comes");
  }
}

void set_constants(const Kernel& kernel, std::vector<Row>& rows) {
  for (const Constant& constant : kernel.constants) {
    std::fill_n(rows[static_cast<size_t>(constant.row)].lane, kLanes, constant.value);
  }
}

void start_block(const Launch& launch, Cluster& cluster, uint64_t index, size_t rank,
                 std::vector<std::vector<Row>>& registers) {
  Block& block = cluster.blocks[rank];
  const uint64_t size = cluster.kernel->shared_size + launch.dynamic_shared_size;
  block.cluster = &cluster;
  block.index = static_cast<int>(index);
  block.rank = static_cast<int>(rank);
  block.fenced = 0;
  block.shared.begin = kSharedBase;
  block.shared.size = size;
  block.shared.own.assign(size, 0xa5);
  block.shared.cells.assign(size, Cell{});
  block.shared.bytes = block.shared.own.data();
  block.warps.assign(launch.threads / kLanes, Warp{});
  for (size_t w = 0; w < block.warps.size(); ++w) {
    Warp& warp = block.warps[w];
    warp.block = &block;
    warp.index = static_cast<int>(w);
    warp.clock.is_alone = !launch.early;
    warp.local.assign(kLanes * cluster.kernel->local_size, 0xa5);
    warp.rows = registers[rank * block.warps.size() + w].data();
    for (uint64_t lane = 0; lane < kLanes; ++lane) {
      const uint64_t special[kSpecials] = {w * kLanes + lane,
                                           launch.threads,
                                           index,
                                           launch.blocks,
                                           lane,
                                           index / launch.cluster_size,
                                           index % launch.cluster_size,
                                           launch.cluster_size};
      for (int i = 0; i < kSpecials; ++i) warp.row(i)[lane] = special[i];
    }
  }
}

}  // namespace

void run(Kernel& kernel, GlobalMemory& global, const Launch& launch, uint64_t seed) {
  if (launch.threads % kLanes != 0 || launch.blocks % launch.cluster_size != 0) {
    throw std::runtime_error("PTX: whole warps and clusters only");
  }
  Cluster cluster;
  cluster.kernel = &kernel;
  cluster.global = &global;
  cluster.threads = static_cast<int>(launch.threads);
  cluster.blocks.resize(launch.cluster_size);
  for (size_t i = 0; i < kernel.parameter_offsets.size(); ++i) {
    cluster.parameters.resize(kernel.parameter_offsets[i] + kernel.parameter_sizes[i]);
    std::memcpy(&cluster.parameters[kernel.parameter_offsets[i]], launch.arguments[i],
                kernel.parameter_sizes[i]);
  }
  const uint64_t warps = launch.cluster_size * launch.threads / kLanes;
  while (kernel.registers.size() < warps) {
    kernel.registers.emplace_back(static_cast<size_t>(kernel.rows));
    set_constants(kernel, kernel.registers.back());
  }
  global.begin_kernel(launch.early);
  std::vector<uint64_t> order;  // of clusters, by their first blocks
  for (uint64_t i = 0; i < launch.blocks; i += launch.cluster_size) order.push_back(i);
  if (seed != 0) shuffle(order, &seed);
  for (const uint64_t first : order) {
    for (size_t rank = 0; rank < launch.cluster_size; ++rank) {
      start_block(launch, cluster, first + rank, rank, kernel.registers);
    }
    run_cluster(cluster, &seed);
  }
}

}  // namespace ptx
