// SPDX-License-Identifier: Apache-2.0
#include "moments/flow.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

#include "moments/flow_row.h"
#include "moments/histogram.h"
#include "moments/read_region.h"
#include "portable/float_environment.h"
#include "portable/thread_team.h"

namespace torch_init {
namespace {

// Elements read at a time, and added up in their order.
constexpr int64_t kChunk = int64_t{1} << 16;
// A thread must have at least this much to do before starting it (some 25 us) pays.
constexpr int64_t kElementsPerThread = int64_t{1} << 19;
// Elements of a block of rows, which should still be in the cache when read by feature.
constexpr int64_t kBlockElements = int64_t{1} << 16;
// Shorter runs of memory are gathered instead of being read one after another.
constexpr int64_t kShortRun = 64;

struct Dimension {
  int64_t size;
  int64_t stride;
};

bool region_of(const std::vector<Dimension>& dims, const std::vector<int64_t>& index_stride,
               Region* region) {
  std::vector<int64_t> size;
  std::vector<int64_t> stride;
  for (const Dimension& dim : dims) {
    size.push_back(dim.size);
    stride.push_back(dim.stride);
  }
  return make_region(static_cast<int>(dims.size()), size.data(), stride.data(), index_stride.data(),
                     0, region);
}

std::vector<int64_t> row_major(const std::vector<Dimension>& dims) {
  std::vector<int64_t> strides(dims.size(), 1);
  for (size_t d = dims.size(); d > 1; --d) strides[d - 2] = strides[d - 1] * dims[d - 1].size;
  return strides;
}

// A region of these dimensions in any order, so that its runs lie side by side if they can.
bool in_memory_order(std::vector<Dimension> dims, Region* region) {
  dims.erase(std::remove_if(dims.begin(), dims.end(), [](Dimension d) { return d.size == 1; }),
             dims.end());
  std::stable_sort(dims.begin(), dims.end(),
                   [](Dimension a, Dimension b) { return a.stride > b.stride; });
  // Expanded dimensions repeat the memory of the others: outermost.
  std::stable_partition(dims.begin(), dims.end(), [](Dimension d) { return d.stride == 0; });
  std::vector<int64_t> memory;
  for (const Dimension& dim : dims) memory.push_back(dim.stride);
  if (!region_of(dims, memory, region)) return false;
  if (region->run_length >= kShortRun) return true;
  return region_of(dims, row_major(dims), region);
}

// The last order code whose value is at most `limit`, infinities included; for NaN the lowest code,
// which is no number's.
template <typename Format>
int64_t last_at_or_below(double limit) {
  using Code = typename Format::Code;
  if (limit != limit) return ~kMagnitude<Code>;
  int64_t low = ~static_cast<int64_t>(Format::kNotFinite);  // -inf, which is at or below
  int64_t high = Format::kNotFinite;                        // inf
  if (limit == bits_double(0x7ff0000000000000u)) return high;
  while (low + 1 < high) {  // value(low) <= limit < value(high)
    const uint64_t between = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
    const int64_t middle = low + static_cast<int64_t>(between / 2);
    const double value = unscaled<Format>(order_code(static_cast<Code>(middle)));
    (value * power_of_two(Format::kScale) <= limit ? low : high) = middle;
  }
  return low;
}

// x >= limit is -x <= -limit, and order codes of opposite numbers are complements.
template <typename Format>
int64_t first_at_or_above(double limit) {
  return ~last_at_or_below<Format>(-limit);
}

int64_t offset_of(const Region& region, int64_t position) {
  if (region.ndim <= 1) return region.ndim == 0 ? 0 : position * region.stride[0];
  int64_t offset = 0;
  for (int d = region.ndim - 1; d >= 0; --d) {
    offset += position % region.size[d] * region.stride[d];
    position /= region.size[d];
  }
  return offset;
}

float scale_of(const FlowTask& task) { return task.scale == nullptr ? 1.0f : *task.scale; }

class FlowReader {
 public:
  FlowReader(const FlowTask& task, const MomentsKernels& kernels)
      : task_(task),
        kernels_(kernels),
        size_(element_size(task.dtype)),
        shift_(rounded_log2(scale_of(task))) {}

  Moments read_chunk(int64_t chunk, Histogram* histogram) const {
    const int64_t begin = chunk * kChunk;
    const int64_t end = std::min(begin + kChunk, task_.elements.numel);
    Moments moments = no_moments();
    read_region(task_.data, size_, task_.elements, begin, end,
                [&](const void* data, uint64_t, int64_t count) {
                  kernels_.flow(task_.dtype, data, count, task_.limits, &moments);
                  if (!task_.histogram) return;
                  kernels_.bins(task_.dtype, data, count, shift_, histogram->pairs(),
                                histogram->bins());
                });
    return moments;
  }

  bool has_features() const { return task_.features.totals != nullptr && elements() > 0; }
  int64_t elements() const { return task_.elements.numel; }
  int64_t chunks() const { return (elements() + kChunk - 1) / kChunk; }

  // Features are read in blocks of rows, in their order. Columns that are dense are read whole.
  int64_t rows_in_block() const {
    const FeatureView& view = task_.features;
    if (view.column_stride != 1) return view.rows.numel;
    return std::clamp<int64_t>(kBlockElements / view.columns, 8, kMostRows);
  }

  // Of a block of rows that begins with row `first`, features [begin, end).
  void read_features(int64_t first, int64_t begin, int64_t end) const {
    if (task_.features.column_stride == 1) return read_columns(first, begin, end);
    for (int64_t c = begin; c < end; ++c) read_feature(c);
  }

 private:
  const char* address(int64_t offset) const {
    return static_cast<const char*>(task_.data) + offset * size_;
  }

  // Of a matrix with dense rows.
  void read_columns(int64_t first, int64_t begin, int64_t end) const {
    const FeatureView& view = task_.features;
    double* const totals = view.totals + begin;
    const int64_t rows = std::min(rows_in_block(), view.rows.numel - first);
    int64_t offset[kMostRows];
    for (int64_t r = 0; r < rows; ++r) offset[r] = offset_of(view.rows, first + r);
    kernels_.features(task_.dtype, address(begin), offset, rows, end - begin, totals,
                      totals + view.columns, totals + 2 * view.columns);
  }

  // Of a matrix whose columns may be dense.
  void read_feature(int64_t c) const {
    const FeatureView& view = task_.features;
    const char* const data = address(c * view.column_stride);
    const int64_t infinity = infinity_code();
    const Moments moments = read_all(data, {~infinity, 1});  // 1: the first number above 0
    int64_t positive = moments.at_or_above;
    if (moments.not_finite > 0) positive -= read_all(data, {~infinity, infinity}).at_or_above;
    view.totals[c] += static_cast<double>(positive);
    view.totals[c + view.columns] += moments.sum;
    view.totals[c + 2 * view.columns] += moments.sum_squares;
  }

  Moments read_all(const char* data, const Limits& limits) const {
    const Region& rows = task_.features.rows_in_memory;
    Moments moments = no_moments();
    read_region(data, size_, rows, 0, rows.numel, [&](const void* at, uint64_t, int64_t count) {
      kernels_.flow(task_.dtype, at, count, limits, &moments);
    });
    return moments;
  }

  int64_t infinity_code() const {
    int64_t code = 0;
    with_flow_format(task_.dtype, [&](auto format) { code = decltype(format)::kNotFinite; });
    return code;
  }

  const FlowTask& task_;
  const MomentsKernels& kernels_;
  const int64_t size_;
  const int shift_;
};

// Takes out what has no place in a histogram.
void remove_zeros_and_not_finite(const FlowTask& task, const Moments& total) {
  const int shift = rounded_log2(scale_of(task));
  double* const bins = task.row + kFlowColumns;
  with_flow_format(task.dtype, [&](auto format) {
    using Format = decltype(format);
    const int of_zero = bin_of_exponent(exponent_of<Format>(0), shift);
    const int of_infinity = bin_of_exponent(exponent_of<Format>(Format::kNotFinite), shift);
    bins[of_zero] -= static_cast<double>(total.zeros);
    bins[of_infinity] -= static_cast<double>(total.not_finite);
  });
}

// Reads chunks, and each block of rows by feature while it is in the cache.
void read_alone(const FlowReader& reader, const FlowTask& task, std::vector<Moments>* parts) {
  const DefaultFloatEnvironment environment;
  const FeatureView& features = task.features;
  Histogram histogram(task.histogram ? reader.elements() : 0);
  int64_t chunk = 0;
  const auto read_chunks = [&](int64_t end) {
    for (; chunk * kChunk < end; ++chunk) {
      (*parts)[static_cast<size_t>(chunk)] = reader.read_chunk(chunk, &histogram);
    }
  };
  if (reader.has_features()) {
    const int64_t rows = reader.rows_in_block();
    for (int64_t first = 0; first < features.rows.numel; first += rows) {
      read_chunks(std::min((first + rows) * features.columns, reader.elements()));
      reader.read_features(first, 0, features.columns);
    }
  }
  read_chunks(reader.elements());
  if (task.histogram) histogram.add_to(task.row + kFlowColumns);
}

// Reads chunks, then features, each thread some columns of all blocks: the same sums.
void read_in_team(const FlowReader& reader, const FlowTask& task, int threads,
                  std::vector<Moments>* parts) {
  const FeatureView& features = task.features;
  const int64_t chunks = reader.chunks();
  const int64_t columns = reader.has_features() ? features.columns : 0;
  const int64_t slice = (columns / threads + 64) / 64 * 64;  // whole cache lines of totals
  std::mutex counting;
  std::atomic<int64_t> next_chunk{0};
  std::atomic<int64_t> next_column{0};
  ThreadTeam().run(threads, [&](int) {
    const DefaultFloatEnvironment environment;
    Histogram histogram(task.histogram ? reader.elements() : 0);
    for (int64_t chunk; (chunk = next_chunk.fetch_add(1)) < chunks;) {
      (*parts)[static_cast<size_t>(chunk)] = reader.read_chunk(chunk, &histogram);
    }
    for (int64_t c; (c = next_column.fetch_add(slice)) < columns;) {
      const int64_t rows = reader.rows_in_block();
      for (int64_t first = 0; first < features.rows.numel; first += rows) {
        reader.read_features(first, c, std::min(c + slice, columns));
      }
    }
    if (!task.histogram) return;
    const std::lock_guard<std::mutex> lock(counting);
    histogram.add_to(task.row + kFlowColumns);
  });
}

}  // namespace

bool set_layout(int ndim, const int64_t* size, const int64_t* stride, double low, double high,
                FlowTask* task) {
  const DefaultFloatEnvironment environment;
  std::vector<Dimension> dims;
  for (int d = 0; d < ndim; ++d) dims.push_back({size[d], stride[d]});
  bool fits = in_memory_order(dims, &task->elements);
  with_flow_format(task->dtype, [&](auto format) {
    using Format = decltype(format);
    task->limits = {last_at_or_below<Format>(low), first_at_or_above<Format>(high)};
  });
  if (task->features.totals == nullptr) return fits;
  FeatureView& view = task->features;
  const Dimension last = dims.empty() ? Dimension{1, 1} : dims.back();
  view.columns = last.size;
  view.column_stride = last.size == 1 ? 1 : last.stride;
  if (!dims.empty()) dims.pop_back();
  fits = fits && region_of(dims, row_major(dims), &view.rows);
  return fits && in_memory_order(dims, &view.rows_in_memory);
}

void host_accumulate(const FlowTask& task, const MomentsKernels& kernels, int max_threads) {
  if (task.gate != nullptr && *task.gate == 0) return;
  const FlowReader reader(task, kernels);
  std::vector<Moments> parts(static_cast<size_t>(reader.chunks()));
  const int threads =
      static_cast<int>(std::clamp<int64_t>(reader.elements() / kElementsPerThread, 1, max_threads));
  if (threads == 1) {
    read_alone(reader, task, &parts);
  } else {
    read_in_team(reader, task, threads, &parts);
  }

  const DefaultFloatEnvironment environment;
  Moments total = no_moments();
  for (const Moments& part : parts) add_moments(&total, part);
  add_to_row(total, task.order, static_cast<double>(scale_of(task)), task.row);
  if (task.histogram) remove_zeros_and_not_finite(task, total);
}

}  // namespace torch_init
