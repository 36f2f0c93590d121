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
#include "fill/staged_table.h"
#include "fill/task.h"
#include "fill/whole_tiles.h"
#include "random/philox.h"

namespace torch_init {

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
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (i < place.begin || i >= place.end) continue;
      const int64_t at = place.run_offset + offset_in_run(region, place.first + i);
      static_cast<double*>(task.data)[at] =
          value_from_words(words.word[2 * i], words.word[2 * i + 1], task.distribution);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i < place.begin || i >= place.end) continue;
    const int64_t at = place.run_offset + offset_in_run(region, place.first + i);
    const float value = value_from_word(words.word[i], task.distribution, fetch_row);
    store_rounded(task.dtype, task.data, at, value);
  }
}

// Where group 0 of a region's only run begins, if whole groups may be stored 16 bytes at a time:
// null unless the run is dense in memory and its groups are aligned there.
TI_HOST_DEVICE char* aligned_groups(const FillTask& task) {
  const Region& region = task.region;
  if (region.runs != 1 || !region.runs_contiguous || task.dtype == DType::kFloat64) return nullptr;
  const uint64_t size = static_cast<uint64_t>(element_size(task.dtype));
  const uintptr_t address =
      reinterpret_cast<uintptr_t>(task.data) - (region.first_index & 3u) * size;
  return address % kStoreBytes == 0 ? reinterpret_cast<char*>(address) : nullptr;
}

// Whether zeros have the specified sign in the inner loops, which take a maximum with low and the
// negatives of a symmetric table's rows for its lower half. A maximum of -0 and 0 is 0: but with
// numbers of this size no sum is so close to 0 that it is rounded to -0.
TI_HOST_DEVICE bool signs_of_zeros_agree(const Distribution& d) {
  constexpr float kSmall = 0x1p-30f;
  if (float_bits(d.f32.location) == 0x80000000u) return false;
  return !d.bounded || d.f32.low != 0.0f ||
         (d.f32.scale >= kSmall && d.f32.high >= kSmall &&
          (d.f32.location == 0.0f || d.f32.location >= kSmall || d.f32.location <= -kSmall));
}

// Whether the inner loops give the specified bits. A GPU rounds otherwise what numbers that are not
// finite lead to, and what is too large for float8_e5m2.
TI_HOST_DEVICE bool in_whole_tiles(const Distribution& d, DType dtype) {
  if (d.kind != DistributionKind::kUniform && d.kind != DistributionKind::kQuantile) return true;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 890
  if (element_size(dtype) == 1) return false;  // which these GPUs cannot round to
#endif
  constexpr float kInfinity = __builtin_huge_valf();
  constexpr float kWidest = 32.0f;  // more than any table's quantile
  const float place = d.f32.location < 0 ? -d.f32.location : d.f32.location;
  const float largest =
      place +
      kWidest * (d.kind == DistributionKind::kUniform ? d.f32.scale * 0x1p24f : d.f32.scale);
  if (dtype == DType::kFloat8E5M2 && !(largest < 57344.0f)) return false;
  if (d.kind == DistributionKind::kQuantile && !signs_of_zeros_agree(d)) return false;
  return d.f32.scale < kInfinity && place < kInfinity;
}

// The longest row of tiles, `first` to at most `end` - 1, that the inner loops can fill; of none
// if `first` itself is cut, scattered or not aligned.
TI_HOST_DEVICE WholeTiles whole_tiles(const FillTask& task, int32_t first, int32_t end) {
  WholeTiles tiles{task.key, 0, nullptr, 0};
  char* const groups = aligned_groups(task);
  const int64_t cut = static_cast<int64_t>(task.region.first_index & 3u);  // off the first group
  if (groups == nullptr || (first == 0 && cut != 0) ||
      !in_whole_tiles(task.distribution, task.dtype)) {
    return tiles;
  }
  const int64_t first_group = int64_t{first} * kTileGroups;
  tiles.first_block = (task.region.first_index >> 2) + static_cast<uint64_t>(first_group);
  tiles.at = groups + first_group * 4 * element_size(task.dtype);
  const int64_t whole = (cut + task.region.run_length) / (4 * kTileGroups);
  const int64_t last = whole < end ? whole : end;
  const int64_t to_next_upper =
      static_cast<int64_t>((uint64_t{1} << 32) - (tiles.first_block & 0xffffffffu)) / kTileGroups;
  const int64_t count = last - first < to_next_upper ? last - first : to_next_upper;
  tiles.count = count > 0 ? static_cast<int32_t>(count) : 0;
  return tiles;
}

// A thread's groups of a tile that is not whole.
template <typename FetchRow>
TI_HOST_DEVICE void fill_cut_tile(const FillTask& task, int32_t tile, int thread,
                                  const FetchRow& fetch_row) {
  const int64_t per_run = groups_per_run(task);
  const int64_t groups = task.region.runs * per_run;
#pragma unroll 1
  for (int i = 0; i < kGroupsPerThread; ++i) {
    const int64_t group = tile * kTileGroups + int64_t{i} * kFillThreads + thread;
    if (group < groups) fill_group(task, place_group(task, group, per_run), fetch_row);
  }
}

// Tiles `first` to `end` - 1 of a task.
TI_HOST_DEVICE void fill_tiles_of_task(const FillTask& task, int32_t first, int32_t end, int thread,
                                       const StagedTable& staged) {
  const StagedRows rows(staged, thread);
  for (int32_t tile = first; tile < end;) {
    const WholeTiles whole = whole_tiles(task, tile, end);
    if (whole.count > 0) {
      fill_whole_tiles(task, whole, thread, rows);
    } else {
      fill_cut_tile(task, tile, thread, rows);
    }
    tile += whole.count > 0 ? whole.count : 1;
  }
}

// Task i owns tiles first_tile[i] ... first_tile[i + 1] - 1, at most kMaxTiles in all: 2^43
// elements, or 2^41 that lie apart.
struct FillList {
  const FillTask* tasks;
  const int64_t* first_tile;
  int64_t count;
};

constexpr int64_t kMaxTiles = 0x7fffffff;

TI_HOST_DEVICE int32_t first_tile_of(const FillList& list, int32_t task) {
  return static_cast<int32_t>(list.first_tile[task]);
}

TI_HOST_DEVICE int32_t task_of_tile(const FillList& list, int32_t tile) {
  int32_t low = 0;
  int32_t high = static_cast<int32_t>(list.count);
  while (high - low > 1) {
    const int32_t middle = low + (high - low) / 2;
    if (first_tile_of(list, middle) <= tile) {
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
  const int32_t tiles = first_tile_of(list, static_cast<int32_t>(list.count));
  const int32_t count = static_cast<int32_t>(block.count());
  const int32_t index = static_cast<int32_t>(block.index());
  const int32_t rest = tiles % count;  // one tile more for each of the first blocks
  int32_t tile = tiles / count * index + (index < rest ? index : rest);
  const int32_t end = tile + tiles / count + (index < rest ? 1 : 0);
  if (tile == end) return;
  int32_t last_staged = -1;  // the task: its table's address would take another register
  for (int32_t i = task_of_tile(list, tile); tile < end; ++i) {
    const int32_t first = first_tile_of(list, i);
    const int32_t next = first_tile_of(list, i + 1);
    const int32_t task_end = next < end ? next : end;
    if (tile == task_end) continue;
    const FillTask& task = list.tasks[i];
    QuantileRows<float> table = task.distribution.table_f32;
    const bool is_staged =
        last_staged >= 0 && list.tasks[last_staged].distribution.table_f32.rows == table.rows;
    if (!is_staged && table.rows != nullptr) {
      last_staged = i;
      if (rows_of_only_task != nullptr) table.rows = rows_of_only_task;
      block.barrier();
      block.for_each_thread([&](int thread) { stage_table(table, thread, staged); });
      block.barrier();
    }
    block.for_each_thread([&](int thread) {
      fill_tiles_of_task(task, tile - first, task_end - first, thread, *staged);
    });
    tile = task_end;
  }
}

}  // namespace torch_init
