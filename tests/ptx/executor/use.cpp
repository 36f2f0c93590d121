// SPDX-License-Identifier: Apache-2.0
//
// Where an address leads, and whether its bytes may be used there and then.
#include <sstream>

#include "machine.h"

namespace ptx {

uint32_t thread_of(const Warp& warp, int lane) {
  const Block& block = *warp.block;
  return static_cast<uint32_t>(block.index * block.cluster->threads + warp.index * kLanes + lane);
}

namespace {

// What lies where, and whose it is.
struct Found {
  Segment* segment;
  uint64_t address;
  const Block* owner;  // of shared memory
};

Found find(Warp& warp, const Instruction& i, int lane, uint64_t address, int bytes) {
  Cluster& cluster = *warp.block->cluster;
  Space space = i.access.space;
  const Block* owner = warp.block;
  if (space == Space::kGeneric) {
    space = address >= kSharedWindow ? Space::kShared : Space::kGlobal;
    if (space == Space::kShared) {
      const uint64_t rank = (address - kSharedWindow) / kWindowSize;
      if (rank >= cluster.blocks.size()) fail(warp, i, lane, "no block of the cluster has this");
      owner = &cluster.blocks[rank];
      address = (address - kSharedWindow) % kWindowSize;
    }
  }
  const auto count = static_cast<uint64_t>(bytes);
  if (address % count != 0) fail(warp, i, lane, "not aligned");
  if (space == Space::kGlobal) return {cluster.global->find(address, count), address, nullptr};
  Segment& shared = const_cast<Block*>(owner)->shared;
  return {shared.holds(address, count) ? &shared : nullptr, address, owner};
}

Place place_of(const Warp& warp) {
  const Cluster& cluster = *warp.block->cluster;
  return {cluster.threads, static_cast<int>(cluster.blocks.size())};
}

// A thread's own memory: nobody else has it.
uint8_t* use_local(Warp& warp, const Instruction& i, int lane, uint64_t address, int bytes) {
  const uint64_t size = warp.block->cluster->kernel->local_size;
  const auto count = static_cast<uint64_t>(bytes);
  if (address % count != 0) fail(warp, i, lane, "not aligned");
  if (address > size || count > size - address) fail(warp, i, lane, "beyond local memory");
  return &warp.local[static_cast<uint64_t>(lane) * size + address];
}

std::string hex(uint64_t number) {
  std::ostringstream out;
  out << std::hex << "0x" << number;
  return out.str();
}

}  // namespace

uint8_t* use(Warp& warp, const Instruction& i, int lane, uint64_t address, int bytes, Use how) {
  const bool is_generic = i.access.space == Space::kGeneric;
  if (i.access.space == Space::kLocal ||
      (is_generic && address >= kLocalWindow && address < kSharedWindow)) {
    return use_local(warp, i, lane, is_generic ? address - kLocalWindow : address, bytes);
  }
  const Found found = find(warp, i, lane, address, bytes);
  if (found.segment == nullptr) {
    fail(warp, i, lane, "out of bounds: " + std::to_string(bytes) + " bytes at " + hex(address));
  }
  if (found.owner != nullptr && found.owner != warp.block) {
    if (found.owner->is_done()) fail(warp, i, lane, "the block whose memory it is has ended");
    if (warp.clock.known.cluster == 0) {
      fail(warp, i, lane, "the block whose memory it is may not have started");
    }
  }
  const std::string wrong = note_use(*found.segment, found.address, bytes, how,
                                     thread_of(warp, lane), warp.clock, place_of(warp));
  if (!wrong.empty()) fail(warp, i, lane, wrong);
  return found.segment->bytes + (found.address - found.segment->begin);
}

}  // namespace ptx
