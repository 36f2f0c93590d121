// SPDX-License-Identifier: Apache-2.0
//
// The CUDA fill kernel's body, for host and device (portable/thread_block.h).
//
//   region -> runs of consecutive logical indices
//   run    -> groups: the elements that share one Philox block (4, or 2 of float64)
//   groups -> tiles of kTileGroups; each thread of a block takes kGroupsPerThread of a tile
//
// Groups are aligned to the logical index, not to the region: a group cut by the end of a run is
// generated whole and stored in part. The value of an element depends on nothing else.
#pragma once

#include "distributions/rounding.h"
#include "distributions/transform.h"
#include "fill/task.h"
#include "random/philox.h"

namespace torch_init {

constexpr int kFillThreads = 256;
constexpr int kGroupsPerThread = 4;
constexpr int64_t kTileGroups = int64_t{kFillThreads} * kGroupsPerThread;

// log2 of the values that one Philox block makes.
TI_HOST_DEVICE int group_shift(DType dtype) { return dtype == DType::kFloat64 ? 1 : 2; }

// Groups set aside for one run. Runs after the first may start anywhere within a group.
TI_HOST_DEVICE int64_t groups_per_run(const FillTask& task) {
  const int shift = group_shift(task.dtype);
  const int64_t last = (int64_t{1} << shift) - 1;
  const int64_t before =
      task.region.runs == 1 ? static_cast<int64_t>(task.region.first_index) & last : last;
  return (before + task.region.run_length + last) >> shift;
}

TI_HOST_DEVICE int64_t tile_count(const FillTask& task) {
  return (task.region.runs * groups_per_run(task) + kTileGroups - 1) / kTileGroups;
}

// A float table in shared memory, its rows split in two so that a warp's scattered reads meet
// fewer bank conflicts.
struct StagedTable {
  struct alignas(8) Pair {
    float first;
    float second;
  };
  static constexpr int kRows = 2 * Segmentation<float>::kSegments;
  Pair low[kRows];
  Pair high[kRows];

  TI_HOST_DEVICE_MEMBER void operator()(uint32_t row, float c[4]) const {
    const Pair l = low[row];
    const Pair h = high[row];
    c[0] = l.first;
    c[1] = l.second;
    c[2] = h.first;
    c[3] = h.second;
  }
};

TI_HOST_DEVICE void stage_table(const QuantileRows<float>& table, int thread, StagedTable* staged) {
  const int rows = table.symmetric ? Segmentation<float>::kSegments : StagedTable::kRows;
  for (int row = thread; row < rows; row += kFillThreads) {
    const float* c = table.rows + row * Segmentation<float>::kCoefficients;
    staged->low[row] = {c[0], c[1]};
    staged->high[row] = {c[2], c[3]};
  }
}

// Four, or two, words in one store. nvcc would split a struct's into single words; __stcs also
// says that the lines need not stay in the cache.
TI_HOST_DEVICE void store_words(void* at, const uint32_t (&word)[4]) {
#if defined(__CUDA_ARCH__)
  __stcs(static_cast<uint4*>(at), make_uint4(word[0], word[1], word[2], word[3]));
#else
  memcpy(at, word, sizeof word);
#endif
}

TI_HOST_DEVICE void store_words(void* at, const uint32_t (&word)[2]) {
#if defined(__CUDA_ARCH__)
  __stcs(static_cast<uint2*>(at), make_uint2(word[0], word[1]));
#else
  memcpy(at, word, sizeof word);
#endif
}

template <DType kDType>
TI_HOST_DEVICE void store_halves(void* at, const float value[4]) {
  uint16_t half[4];
  for (int i = 0; i < 4; ++i) store_rounded(kDType, half, i, value[i]);
  store_words(at, {half[0] | static_cast<uint32_t>(half[1]) << 16,
                   half[2] | static_cast<uint32_t>(half[3]) << 16});
}

template <DType kDType>
TI_HOST_DEVICE void store_bytes(void* at, const float value[4]) {
  uint8_t byte[4];
  for (int i = 0; i < 4; ++i) store_rounded(kDType, byte, i, value[i]);
  uint32_t word = 0;
  for (int i = 0; i < 4; ++i) word |= static_cast<uint32_t>(byte[i]) << (8 * i);
  *static_cast<uint32_t*>(at) = word;
}

// Four values side by side at `at`, which is aligned for one wide store.
TI_HOST_DEVICE void store_group(DType dtype, void* at, const float value[4]) {
  switch (dtype) {
    case DType::kBFloat16:
      return store_halves<DType::kBFloat16>(at, value);
    case DType::kFloat16:
      return store_halves<DType::kFloat16>(at, value);
    case DType::kFloat8E4M3FN:
      return store_bytes<DType::kFloat8E4M3FN>(at, value);
    case DType::kFloat8E5M2:
      return store_bytes<DType::kFloat8E5M2>(at, value);
    default:
      return store_words(at, {float_bits(value[0]), float_bits(value[1]), float_bits(value[2]),
                              float_bits(value[3])});
  }
}

// Where a group's values go: element `first + i` of a run for i in [begin, end).
struct GroupPlace {
  int64_t run_offset;
  int64_t first;  // negative in the group that the run's start cuts
  uint64_t block;
  int begin;
  int end;
};

TI_HOST_DEVICE GroupPlace place_group(const FillTask& task, int64_t group, int64_t per_run) {
  const Region& region = task.region;
  const int shift = group_shift(task.dtype);
  const int64_t per_group = int64_t{1} << shift;
  const int64_t run = region.runs == 1 ? 0 : group / per_run;
  const int64_t group_in_run = group - run * per_run;
  const RunStart start = run_start(region, run);
  GroupPlace place;
  place.run_offset = start.offset;
  place.block = (start.index >> shift) + static_cast<uint64_t>(group_in_run);
  place.first = (group_in_run << shift) - (static_cast<int64_t>(start.index) & (per_group - 1));
  const int64_t left = region.run_length - place.first;
  place.begin = place.first < 0 ? static_cast<int>(-place.first) : 0;
  place.end = static_cast<int>(left < per_group ? (left < 0 ? 0 : left) : per_group);
  return place;
}

template <typename FetchRow>
TI_HOST_DEVICE void fill_group(const FillTask& task, const GroupPlace& place,
                               const FetchRow& fetch_row) {
  const Region& region = task.region;
  const PhiloxBlock words = stream_block(task.key, place.block);
  if (task.dtype == DType::kFloat64) {
    for (int i = 0; i < 2; ++i) {
      if (i < place.begin || i >= place.end) continue;
      const int64_t at = place.run_offset + offset_in_run(region, place.first + i);
      static_cast<double*>(task.data)[at] =
          value_from_words(words.word[2 * i], words.word[2 * i + 1], task.distribution);
    }
    return;
  }
  for (int i = 0; i < 4; ++i) {
    if (i < place.begin || i >= place.end) continue;
    const int64_t at = place.run_offset + offset_in_run(region, place.first + i);
    const float value = value_from_word(words.word[i], task.distribution, fetch_row);
    store_rounded(task.dtype, task.data, at, value);
  }
}

// Where group 0 of a region's only run begins, if its groups may be stored in one piece each:
// null unless the run is dense in memory and its groups are aligned there.
TI_HOST_DEVICE char* aligned_groups(const FillTask& task) {
  const Region& region = task.region;
  if (region.runs != 1 || !region.runs_contiguous || task.dtype == DType::kFloat64) return nullptr;
  const uint64_t size = static_cast<uint64_t>(element_size(task.dtype));
  const uintptr_t address =
      reinterpret_cast<uintptr_t>(task.data) - (region.first_index & 3u) * size;
  return address % (4 * size) == 0 ? reinterpret_cast<char*>(address) : nullptr;
}

// A thread's groups of a whole tile: the path of almost every element. Kind and bounds are template
// arguments and all fields are copied, so that the loop neither branches on what does not change
// nor reads it again after every store.
template <DistributionKind kKind, bool kBounded, typename FetchRow>
TI_HOST_DEVICE void fill_whole_groups(const FillTask& task, uint64_t block, char* at,
                                      const FetchRow& fetch_row) {
  Distribution distribution = task.distribution;
  distribution.kind = kKind;
  distribution.bounded = kBounded;
  const uint64_t key = task.key;
  const DType dtype = task.dtype;
  const int64_t step = kFillThreads * 4 * element_size(dtype);
  for (int i = 0; i < kGroupsPerThread; ++i) {
    const PhiloxBlock words = stream_block(key, block);
    float value[4];
    for (int j = 0; j < 4; ++j) {
      value[j] = value_from_word(words.word[j], distribution, fetch_row);
    }
    store_group(dtype, at, value);
    block += kFillThreads;
    at += step;
  }
}

template <typename FetchRow>
TI_HOST_DEVICE void fill_whole_tile(const FillTask& task, int64_t first_group, char* groups,
                                    const FetchRow& fetch_row) {
  using Kind = DistributionKind;
  const uint64_t block = (task.region.first_index >> 2) + static_cast<uint64_t>(first_group);
  char* const at = groups + first_group * 4 * element_size(task.dtype);
  switch (task.distribution.kind) {
    case Kind::kConstant:
      return fill_whole_groups<Kind::kConstant, false>(task, block, at, fetch_row);
    case Kind::kUniform:
      return fill_whole_groups<Kind::kUniform, true>(task, block, at, fetch_row);
    case Kind::kQuantile:
      return task.distribution.bounded
                 ? fill_whole_groups<Kind::kQuantile, true>(task, block, at, fetch_row)
                 : fill_whole_groups<Kind::kQuantile, false>(task, block, at, fetch_row);
    case Kind::kTwoPoint:
      return fill_whole_groups<Kind::kTwoPoint, false>(task, block, at, fetch_row);
    case Kind::kBits:
      return fill_whole_groups<Kind::kBits, false>(task, block, at, fetch_row);
  }
}

template <typename FetchRow>
TI_HOST_DEVICE void fill_tile(const FillTask& task, int64_t tile, int thread,
                              const FetchRow& fetch_row) {
  const int64_t per_run = groups_per_run(task);
  const int64_t groups = task.region.runs * per_run;
  char* const aligned = aligned_groups(task);
  const int64_t cut = static_cast<int64_t>(task.region.first_index & 3u);  // off the first group
  const bool whole =
      (tile != 0 || cut == 0) && 4 * (tile + 1) * kTileGroups <= cut + task.region.run_length;
  if (whole && aligned != nullptr) {
    return fill_whole_tile(task, tile * kTileGroups + thread, aligned, fetch_row);
  }
  for (int i = 0; i < kGroupsPerThread; ++i) {
    const int64_t group = tile * kTileGroups + int64_t{i} * kFillThreads + thread;
    if (group < groups) fill_group(task, place_group(task, group, per_run), fetch_row);
  }
}

// Task i owns tiles first_tile[i] ... first_tile[i + 1] - 1.
struct FillList {
  const FillTask* tasks;
  const int64_t* first_tile;
  int64_t count;
};

TI_HOST_DEVICE int64_t task_of_tile(const FillList& list, int64_t tile) {
  int64_t low = 0;
  int64_t high = list.count;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (list.first_tile[middle] <= tile) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// One block's share of the tiles, a consecutive one so that tables are staged rarely. A list of
// one task may bring its table's rows as `rows_of_only_task`; otherwise tasks point to theirs.
template <typename Block>
TI_HOST_DEVICE void fill_block(const Block& block, const FillList& list,
                               const float* rows_of_only_task, StagedTable* staged) {
  const int64_t tiles = list.first_tile[list.count];
  const int64_t begin = tiles * block.index() / block.count();
  const int64_t end = tiles * (block.index() + 1) / block.count();
  if (begin == end) return;
  int64_t i = task_of_tile(list, begin);
  const float* staged_rows = nullptr;
  for (int64_t tile = begin; tile < end; ++tile) {
    while (i + 1 < list.count && tile >= list.first_tile[i + 1]) ++i;
    const FillTask& task = list.tasks[i];
    QuantileRows<float> table = task.distribution.table_f32;
    if (table.rows != staged_rows && table.rows != nullptr) {
      staged_rows = table.rows;
      if (rows_of_only_task != nullptr) table.rows = rows_of_only_task;
      block.barrier();
      block.for_each_thread([&](int thread) { stage_table(table, thread, staged); });
      block.barrier();
    }
    block.for_each_thread(
        [&](int thread) { fill_tile(task, tile - list.first_tile[i], thread, *staged); });
  }
}

}  // namespace torch_init
