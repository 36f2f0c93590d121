// SPDX-License-Identifier: Apache-2.0
//
// What the lanes of a warp do together, and barriers. Fragments are those of the PTX ISA's
// "Matrix Fragments for mma.m16n8k32" and "ldmatrix".
#include <cstring>
#include <map>

#include "each_lane.h"

namespace ptx {
namespace {

size_t at(int i) { return static_cast<size_t>(i); }

enum class Shuffle { kUp, kDown, kButterfly, kIndex };

// out, valid, value, b, c, members
template <Shuffle kShuffle>
void shuffle(Warp& warp, const Instruction& i, Mask mask) {
  Row before;
  std::memcpy(before.lane, warp.row(i.operands[2]), sizeof before);
  for (int lane = 0; lane < kLanes; ++lane) {
    if (!(mask >> lane & 1)) continue;
    const auto b = static_cast<int>(warp.row(i.operands[3])[lane] & 31);
    const auto c = static_cast<int>(warp.row(i.operands[4])[lane]);
    const int clamp = c & 31, segment = c >> 8 & 31;
    const int most = (lane & segment) | (clamp & ~segment);
    const int least = lane & segment;
    int from = lane;
    bool valid = true;
    if (kShuffle == Shuffle::kUp) from = lane - b, valid = from >= most;
    if (kShuffle == Shuffle::kDown) from = lane + b, valid = from <= most;
    if (kShuffle == Shuffle::kButterfly) from = lane ^ b, valid = from <= most;
    if (kShuffle == Shuffle::kIndex) from = least | (b & ~segment), valid = from <= most;
    if (!valid) from = lane;
    if (!(mask >> from & 1)) fail(warp, i, lane, "shuffles with a lane that is not there");
    warp.row(i.operands[0])[lane] = static_cast<uint32_t>(before.lane[from]);
    warp.row(i.operands[1])[lane] = valid;
  }
}

// out, predicate, members
enum class Vote { kAll, kAny, kBallot };
template <Vote kVote>
void vote(Warp& warp, const Instruction& i, Mask mask) {
  Mask yes = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    if (mask >> lane & 1 && warp.row(i.operands[1])[lane] & 1) yes |= 1u << lane;
  }
  const uint64_t answer = kVote == Vote::kBallot ? yes
                          : kVote == Vote::kAny  ? yes != 0
                                                 : yes == mask;
  for (int lane = 0; lane < kLanes; ++lane) {
    if (mask >> lane & 1) warp.row(i.operands[0])[lane] = answer;
  }
}

// D[16][8] = A[16][32] B[32][8] + C: registers of D 0 ... 3, A 4 ... 7, B 8 and 9, C 10 ... 13.
template <typename OfA, typename OfB>
void multiply(Warp& warp, const Instruction& i, Mask) {
  int32_t a[16][32], b[8][32];
  for (int lane = 0; lane < kLanes; ++lane) {
    const int group = lane >> 2, in_group = lane & 3;
    for (int k = 0; k < 16; ++k) {
      const int row = group + ((k / 4) % 2 == 1 ? 8 : 0);
      const int column = in_group * 4 + k % 4 + (k >= 8 ? 16 : 0);
      a[row][column] = static_cast<OfA>(warp.row(i.operands[at(4 + k / 4)])[lane] >> (8 * (k % 4)));
    }
    for (int k = 0; k < 8; ++k) {
      const int row = in_group * 4 + k % 4 + (k >= 4 ? 16 : 0);
      b[group][row] = static_cast<OfB>(warp.row(i.operands[at(8 + k / 4)])[lane] >> (8 * (k % 4)));
    }
  }
  Row out[4];
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int k = 0; k < 4; ++k) {
      const int row = (lane >> 2) + (k >= 2 ? 8 : 0);
      const int column = (lane & 3) * 2 + k % 2;
      uint32_t sum = static_cast<uint32_t>(warp.row(i.operands[at(10 + k)])[lane]);
      for (int n = 0; n < 32; ++n) sum += static_cast<uint32_t>(a[row][n] * b[column][n]);
      out[k].lane[lane] = sum;
    }
  }
  for (int k = 0; k < 4; ++k) std::memcpy(warp.row(i.operands[at(k)]), &out[k], sizeof out[k]);
}

// ldmatrix: kCount registers, then an address: lane 8 m + r has that of row r of matrix m.
template <int kCount, bool kTransposed>
void load_matrices(Warp& warp, const Instruction& i, Mask) {
  uint16_t matrix[kCount][8][8];
  for (int lane = 0; lane < 8 * kCount; ++lane) {
    const uint64_t address =
        warp.row(i.operands[kCount])[lane] + static_cast<uint64_t>(int64_t{i.operands[kCount + 1]});
    std::memcpy(matrix[lane / 8][lane % 8], use(warp, i, lane, address, 16, Use::kRead), 16);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int m = 0; m < kCount; ++m) {
      uint32_t word = 0;
      for (int k = 0; k < 2; ++k) {
        const int row = lane / 4, column = lane % 4 * 2 + k;
        const uint16_t x = kTransposed ? matrix[m][column][row] : matrix[m][row][column];
        word |= static_cast<uint32_t>(x) << (16 * k);
      }
      warp.row(i.operands[at(m)])[lane] = word;
    }
  }
}

struct Entry {
  Kind kind;
  Execute execute;
  bool has_members;
};

const std::map<std::string, Entry>& entries() {
  constexpr Kind kTogether = Kind::kTogether;
  static const std::map<std::string, Entry> table = {
      {"shfl.sync.up.b32", {kTogether, shuffle<Shuffle::kUp>, true}},
      {"shfl.sync.down.b32", {kTogether, shuffle<Shuffle::kDown>, true}},
      {"shfl.sync.bfly.b32", {kTogether, shuffle<Shuffle::kButterfly>, true}},
      {"shfl.sync.idx.b32", {kTogether, shuffle<Shuffle::kIndex>, true}},
      {"vote.sync.all.pred", {kTogether, vote<Vote::kAll>, true}},
      {"vote.sync.any.pred", {kTogether, vote<Vote::kAny>, true}},
      {"vote.sync.ballot.b32", {kTogether, vote<Vote::kBallot>, true}},
      {"mma.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32",
       {kTogether, multiply<int8_t, uint8_t>, false}},
      {"mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32",
       {kTogether, multiply<uint8_t, uint8_t>, false}},
      {"mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32",
       {kTogether, multiply<uint8_t, int8_t>, false}},
      {"mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32",
       {kTogether, multiply<int8_t, int8_t>, false}},
      {"griddepcontrol.launch_dependents",
       {Kind::kPlain, [](Warp&, const Instruction&, Mask) {}, false}},
      {"griddepcontrol.wait", {Kind::kWaitForKernels, nullptr, false}},
      {"bar.warp.sync", {Kind::kWarpBarrier, nullptr, true}},
      {"bar.sync", {Kind::kBarrier, nullptr, false}},
      {"barrier.sync", {Kind::kBarrier, nullptr, false}},
      {"barrier.sync.aligned", {Kind::kBarrier, nullptr, false}},
      {"barrier.cluster.arrive.release.aligned", {Kind::kClusterArrive, nullptr, false}},
      {"barrier.cluster.wait.acquire.aligned", {Kind::kClusterWait, nullptr, false}},
  };
  return table;
}

template <bool kTransposed>
Execute matrix_loader(const std::string& count) {
  if (count == "x1") return load_matrices<1, kTransposed>;
  if (count == "x2") return load_matrices<2, kTransposed>;
  return count == "x4" ? load_matrices<4, kTransposed> : nullptr;
}

}  // namespace

bool decode_together(Instruction* instruction) {
  const auto found = entries().find(instruction->name);
  if (found != entries().end()) {
    instruction->kind = found->second.kind;
    instruction->execute = found->second.execute;
    instruction->has_members = found->second.has_members;
    return instruction->kind != Kind::kBarrier || instruction->operands == std::vector<int>{0};
  }
  const std::string prefix = "ldmatrix.sync.aligned.m8n8.";
  if (instruction->name.compare(0, prefix.size(), prefix) != 0) return false;
  const std::string count = instruction->name.substr(prefix.size(), 2);
  const std::string rest = instruction->name.substr(prefix.size() + 2);
  instruction->kind = Kind::kTogether;
  instruction->access.space = Space::kShared;
  if (rest == ".shared.b16") instruction->execute = matrix_loader<false>(count);
  if (rest == ".trans.shared.b16") instruction->execute = matrix_loader<true>(count);
  return instruction->execute != nullptr;
}

void decode(Instruction* instruction) {
  static const std::map<std::string, Kind> control = {{"bra", Kind::kBranch},
                                                      {"bra.uni", Kind::kBranch},
                                                      {"ret", Kind::kExit},
                                                      {"exit", Kind::kExit}};
  const auto found = control.find(instruction->name);
  if (found != control.end()) {
    instruction->kind = found->second;
  } else if (!decode_integer(instruction) && !decode_float(instruction) &&
             !decode_conversion(instruction) && !decode_access(instruction) &&
             !decode_together(instruction)) {
    // Whoever gets here is told.
    instruction->kind = Kind::kPlain;
    instruction->execute = [](Warp& warp, const Instruction& i, Mask) {
      fail(warp, i, 0, "unknown instruction");
    };
  }
}

}  // namespace ptx
