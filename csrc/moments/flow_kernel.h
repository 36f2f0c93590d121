// SPDX-License-Identifier: Apache-2.0
//
// The flow-mode kernels' bodies, for host and device (portable/thread_block.h). The first reads
// pieces of fixed size into scratch memory, the second adds them up in their order:
//
//   chunks    of 8192 elements or more
//   segments  of kSegmentRows rows of the matrix of features, kTileColumns columns at a time
//
// Numbers of elements by exponent need no order: adding integers is exact.
#pragma once

#include "moments/flow.h"
#include "moments/flow_row.h"
#include "moments/measure_kernel.h"

namespace torch_init {

constexpr int64_t kSegmentRows = 1024;
// A warp reads 32 columns side by side; columns that are dense are read one at a time.
constexpr int kTileColumns = 32;

TI_HOST_DEVICE int64_t divided_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// At least 256 chunks keep a GPU busy; larger ones spend less on adding up.
TI_HOST_DEVICE int64_t flow_chunk(int64_t elements) {
  int64_t chunk = 8192;
  while (chunk < kMeasureChunk && elements / chunk >= 512) chunk *= 2;
  return chunk;
}

// What the first kernel leaves for the second.
struct FlowScratch {
  Moments* of_chunk;
  double* of_segment;  // [segments, 3, columns]
};

// What there is to do, in units that a block does at a time.
struct FlowWork {
  int64_t chunk;  // elements
  int64_t chunks;
  int64_t segments;
  int tile;       // columns read at a time
  int64_t tiles;  // 0 without features
};

TI_HOST_DEVICE FlowWork flow_work(const FlowTask& task) {
  const int64_t chunk = flow_chunk(task.elements.numel);
  FlowWork work = {chunk, divided_up(task.elements.numel, chunk), 0, 1, 0};
  if (task.features.totals == nullptr || task.elements.numel == 0) return work;
  work.segments = divided_up(task.features.rows.numel, kSegmentRows);
  work.tile = task.features.column_stride == 1 ? kTileColumns : 1;
  work.tiles = divided_up(task.features.columns, work.tile);
  return work;
}

TI_HOST_DEVICE bool gate_is_closed(const FlowTask& task) {
  return task.gate != nullptr && *task.gate == 0;
}

TI_HOST_DEVICE void count_one(uint32_t* counter) {
#if defined(__CUDA_ARCH__)
  atomicAdd(counter, 1u);
#else
  *counter += 1;
#endif
}

TI_HOST_DEVICE void add_count(double* total, double count) {
#if defined(__CUDA_ARCH__)
  atomicAdd(total, count);
#else
  *total += count;
#endif
}

// What one thread reads of elements [begin, end).
template <typename Format>
class FlowShare {
 public:
  using Code = typename Format::Code;
  static constexpr int64_t kPerVector = kVectorBytes / sizeof(Code);
  static constexpr int64_t kPerPage = kPageBytes / sizeof(Code);

  TI_HOST_DEVICE_MEMBER FlowShare(const FlowTask& task, int thread, uint32_t* bins, int shift)
      : task_(task), thread_(thread), bins_(bins), shift_(shift) {}

  TI_HOST_DEVICE_MEMBER void read(int64_t begin, int64_t end, Moments* moments) {
    const Region& region = task_.elements;
    const Code* const data = static_cast<const Code*>(task_.data);
    const bool dense = region.runs == 1 && region.runs_contiguous;
    if (dense && reinterpret_cast<uintptr_t>(data) % kVectorBytes == 0) {
      const int64_t at = begin + thread_ * kPerVector;
      const int whole =
          end - at < kPerVector ? 0 : static_cast<int>((end - at - kPerVector) / kPerPage) + 1;
      read_whole(data + at, whole, moments);
      for (int64_t i = at + whole * kPerPage; i < end; ++i) add(data[i]);  // one thread has these
    } else {
      for (int64_t i = begin + thread_; i < end; i += kMeasureThreads) {
        const int64_t run = region.runs == 1 ? 0 : i / region.run_length;
        add(data[run_start(region, run).offset +
                 offset_in_run(region, i - run * region.run_length)]);
      }
    }
    if (count_ != 0) tally_.add_to(count_, moments);
  }

 private:
  // Vectors that lie a page apart; what not every tensor needs has a pass of its own, in L1.
  TI_HOST_DEVICE_MEMBER void read_whole(const Code* data, int count, Moments* moments) {
    int done = 0;
    if constexpr (WordTally<Format, Reading::kFlow>::kReads) {
      WordTally<Format, Reading::kFlow> words;
      done = read_by_words(count);
      for_each_vector<kVectorsAtOnce>(data, done, [&](const VectorWords& vector, int) {
        for (int k = 0; k < kVectorWords; ++k) words.add(vector.word[k]);
      });
      if (words.all_finite()) {
        words.add_to(done * kPerVector, moments);
        if (words.reaches(task_.limits.low, task_.limits.high)) {
          count_at_limits(data, done, moments);
        }
        if (task_.histogram) {
          for_each_code(data, done, [&](Code bits) { count_in_bin(bits); });
        }
      } else {
        done = 0;
      }
    }
    for_each_code(data + done * kPerPage, count - done, [&](Code bits) { add(bits); });
  }

  template <typename Use>
  TI_HOST_DEVICE_MEMBER static void for_each_code(const Code* data, int vectors, const Use& use) {
    for_each_vector<1>(data, vectors, [&](const VectorWords& vector, int) {
      for (int j = 0; j < kPerVector; ++j) use(code_in_vector<Code>(vector, j));
    });
  }

  // Of finite elements.
  TI_HOST_DEVICE_MEMBER void count_at_limits(const Code* data, int vectors, Moments* moments) {
    int32_t at_or_below = 0;
    int32_t at_or_above = 0;
    for_each_code(data, vectors, [&](Code bits) {
      at_or_below += order_code(bits) <= task_.limits.low;
      at_or_above += order_code(bits) >= task_.limits.high;
    });
    moments->at_or_below += at_or_below;
    moments->at_or_above += at_or_above;
  }

  TI_HOST_DEVICE_MEMBER void add(Code bits) {
    tally_.add(bits, task_.limits);
    count_ += 1;
    if (task_.histogram) count_in_bin(bits);
  }

  TI_HOST_DEVICE_MEMBER void count_in_bin(Code bits) {
    const Code magnitude = static_cast<Code>(bits & kMagnitude<Code>);
    if (magnitude == 0 || magnitude >= Format::kNotFinite) return;
    count_one(&bins_[bin_of_exponent(exponent_of<Format>(bits), shift_)]);
  }

  const FlowTask& task_;
  int thread_;
  uint32_t* bins_;
  int shift_;
  int64_t count_ = 0;
  Tally<Format, Reading::kFlow> tally_;
};

// Positive elements, sum and sum of squares of one column, so far.
struct ColumnSums {
  double positive;
  double sum;
  double sum_squares;
};

template <typename Format>
TI_HOST_DEVICE void add_to_column(typename Format::Code bits, ColumnSums* sums) {
  using Code = typename Format::Code;
  if (static_cast<Code>(bits & kMagnitude<Code>) >= Format::kNotFinite) return;
  const double value = unscaled<Format>(bits) * power_of_two(Format::kScale);
  sums->positive += value > 0.0;
  sums->sum += value;
  sums->sum_squares += value * value;
}

TI_HOST_DEVICE int64_t offset_of_row(const Region& rows, int64_t row) {
  const int64_t run = rows.runs == 1 ? 0 : row / rows.run_length;
  return run_start(rows, run).offset + offset_in_run(rows, row - run * rows.run_length);
}

// Shared memory of a block.
struct FlowShared {
  union {
    Moments of_thread[kMeasureThreads];
    ColumnSums column[kMeasureThreads];
  };
  uint32_t bins[kBins];
};

// One unit of features: thread `t` reads column t % tile of every (threads / tile)-th row.
template <typename Block>
TI_HOST_DEVICE void read_tile(const Block& block, const FlowTask& task, const FlowWork& work,
                              int64_t unit, FlowShared* shared, double* of_segment) {
  const FeatureView& view = task.features;
  const int64_t segment = unit / work.tiles;
  const int64_t first_column = unit % work.tiles * work.tile;
  const int64_t first_row = segment * kSegmentRows;
  const int64_t left = view.rows.numel - first_row;
  const int64_t end_row = first_row + (left < kSegmentRows ? left : kSegmentRows);
  block.for_each_thread([&](int thread) {
    ColumnSums sums = {0.0, 0.0, 0.0};
    const int64_t column = first_column + thread % work.tile;
    if (column < view.columns) {
      with_flow_format(task.dtype, [&](auto format) {
        using Format = decltype(format);
        using Code = typename Format::Code;
        const Code* const data = static_cast<const Code*>(task.data) + column * view.column_stride;
        for (int64_t row = first_row + thread / work.tile; row < end_row;
             row += kMeasureThreads / work.tile) {
          add_to_column<Format>(data[offset_of_row(view.rows, row)], &sums);
        }
      });
    }
    shared->column[thread] = sums;
  });
  for (int width = kMeasureThreads / 2; width >= work.tile; width /= 2) {
    block.barrier();
    block.for_each_thread([&](int thread) {
      if (thread >= width) return;
      shared->column[thread].positive += shared->column[thread + width].positive;
      shared->column[thread].sum += shared->column[thread + width].sum;
      shared->column[thread].sum_squares += shared->column[thread + width].sum_squares;
    });
  }
  block.for_each_thread([&](int thread) {
    const int64_t column = first_column + thread;
    if (thread >= work.tile || column >= view.columns) return;
    double* const out = of_segment + segment * 3 * view.columns + column;
    out[0] = shared->column[thread].positive;
    out[view.columns] = shared->column[thread].sum;
    out[2 * view.columns] = shared->column[thread].sum_squares;
  });
  block.barrier();
}

// One block's share of the reading.
template <typename Block>
TI_HOST_DEVICE void read_flow_units(const Block& block, const FlowTask& task,
                                    const FlowScratch& scratch, FlowShared* shared) {
  if (gate_is_closed(task)) return;
  const FlowWork work = flow_work(task);
  const int shift = task.scale == nullptr ? 0 : rounded_log2(*task.scale);
  if (task.histogram) {
    block.for_each_thread([&](int thread) {
      if (thread < kBins) shared->bins[thread] = 0;
    });
    block.barrier();
  }
  const int64_t units = work.chunks + work.segments * work.tiles;
  for (int64_t unit = block.index(); unit < units; unit += block.count()) {
    if (unit >= work.chunks) {
      read_tile(block, task, work, unit - work.chunks, shared, scratch.of_segment);
      continue;
    }
    const int64_t begin = unit * work.chunk;
    const int64_t left = task.elements.numel - begin;
    const int64_t end = begin + (left < work.chunk ? left : work.chunk);
    block.for_each_thread([&](int thread) {
      shared->of_thread[thread] = no_moments();
      with_flow_format(task.dtype, [&](auto format) {
        FlowShare<decltype(format)>(task, thread, shared->bins, shift)
            .read(begin, end, &shared->of_thread[thread]);
      });
    });
    add_up_block(block, shared->of_thread);
    block.for_each_thread([&](int thread) {
      if (thread == 0) scratch.of_chunk[unit] = shared->of_thread[0];
    });
    block.barrier();
  }
  // The last unit has ended with a barrier.
  if (!task.histogram) return;
  block.for_each_thread([&](int thread) {
    if (thread >= kBins || shared->bins[thread] == 0) return;
    add_count(task.row + kFlowColumns + thread, shared->bins[thread]);
  });
}

// One block's share of the adding up.
template <typename Block>
TI_HOST_DEVICE void add_up_flow(const Block& block, const FlowTask& task,
                                const FlowScratch& scratch, FlowShared* shared) {
  if (gate_is_closed(task)) return;
  const FlowWork work = flow_work(task);
  const int64_t columns = work.tiles == 0 ? 0 : 3 * task.features.columns;
  block.for_each_thread([&](int thread) {
    for (int64_t c = block.index() * kMeasureThreads + thread; c < columns;
         c += block.count() * kMeasureThreads) {
      double total = task.features.totals[c];
      for (int64_t s = 0; s < work.segments; ++s) total += scratch.of_segment[s * columns + c];
      task.features.totals[c] = total;
    }
  });
  if (block.index() != 0) return;
  block.for_each_thread([&](int thread) {
    Moments moments = no_moments();
    for (int64_t chunk = thread; chunk < work.chunks; chunk += kMeasureThreads) {
      add_moments(&moments, scratch.of_chunk[chunk]);
    }
    shared->of_thread[thread] = moments;
  });
  add_up_block(block, shared->of_thread);
  block.for_each_thread([&](int thread) {
    if (thread != 0) return;
    const double scale = task.scale == nullptr ? 1.0 : static_cast<double>(*task.scale);
    add_to_row(shared->of_thread[0], task.order, scale, task.row);
  });
}

}  // namespace torch_init
