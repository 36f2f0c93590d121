// SPDX-License-Identifier: Apache-2.0
#include "fill/host_fill.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "distributions/rounding.h"
#include "distributions/transform.h"
#include "portable/float_environment.h"
#include "portable/thread_team.h"
#include "random/philox.h"

namespace torch_init {
namespace {

// Elements a thread takes at a time; small enough to balance threads of unequal speed.
constexpr int64_t kChunk = int64_t{1} << 16;
// A thread must have at least this much to do before starting it (some 25 us) pays.
constexpr int64_t kElementsPerThread = int64_t{1} << 17;
// Elements staged in L1 between generation and rounding or scattering; a multiple of what every
// tier makes at a time.
constexpr int64_t kStage = 3072;
// A tensor larger than this leaves the cache before it is read again.
constexpr int64_t kStreamBytes = int64_t{16} << 20;

class RegionFiller {
 public:
  RegionFiller(const FillTask& task, const CpuKernels& kernels)
      : task_(task),
        kernels_(kernels),
        size_(element_size(task.dtype)),
        stream_(task.region.numel * size_ >= kStreamBytes) {}

  // Elements [begin, end) of the region in row-major order.
  void fill(int64_t begin, int64_t end) const {
    const Region& region = task_.region;
    while (begin < end) {
      const int64_t run = begin / region.run_length;
      const int64_t position = begin % region.run_length;
      const int64_t count = std::min(end - begin, region.run_length - position);
      const RunStart start = run_start(region, run);
      const uint64_t index = start.index + static_cast<uint64_t>(position);
      if (region.runs_contiguous) {
        emit(index, count, address(start.offset + position), stream_);
      } else {
        scatter(index, start.offset, position, count);
      }
      begin += count;
    }
  }

 private:
  char* address(int64_t offset) const { return static_cast<char*>(task_.data) + offset * size_; }

  // `count` elements from logical index `index` on, side by side.
  void emit(uint64_t index, int64_t count, char* out, bool stream) const {
    const Distribution& d = task_.distribution;
    if (d.kind == DistributionKind::kConstant) {
      emit_constant(count, out);
    } else if (d.kind == DistributionKind::kBits) {
      emit_blocks<uint32_t, 4>(index, count, reinterpret_cast<uint32_t*>(out), false);
    } else if (task_.dtype == DType::kFloat32) {
      emit_blocks<float, 4>(index, count, reinterpret_cast<float*>(out), stream);
    } else if (task_.dtype == DType::kFloat64) {
      emit_blocks<double, 2>(index, count, reinterpret_cast<double*>(out), false);
    } else {
      emit_rounded(index, count, out, stream);
    }
  }

  void emit_constant(int64_t count, char* out) const {
    const ValueMap<double>& wide = task_.distribution.f64;
    if (task_.dtype == DType::kFloat64) {
      std::fill_n(reinterpret_cast<double*>(out), count, wide.location);
      return;
    }
    uint32_t code = 0;
    store_rounded(task_.dtype, &code, 0, task_.distribution.f32.location);
    if (size_ == 4) std::fill_n(reinterpret_cast<uint32_t*>(out), count, code);
    if (size_ == 2) {
      std::fill_n(reinterpret_cast<uint16_t*>(out), count, static_cast<uint16_t>(code));
    }
    if (size_ == 1) std::fill_n(reinterpret_cast<uint8_t*>(out), count, static_cast<uint8_t>(code));
  }

  void emit_rounded(uint64_t index, int64_t count, char* out, bool stream) const {
    alignas(64) float staged[kStage];
    while (count > 0) {
      // End on a block boundary, so that only the first stage starts inside a block.
      const int64_t misaligned = static_cast<int64_t>(index % kWordsPerBlock);
      const int64_t n = std::min(count, kStage - misaligned);
      emit_blocks<float, 4>(index, n, staged, false);
      kernels_.round(task_.dtype, staged, static_cast<size_t>(n), out,
                     stream && aligned_for_stream(out));
      index += static_cast<uint64_t>(n);
      count -= n;
      out += n * size_;
    }
  }

  void scatter(uint64_t index, int64_t run_offset, int64_t position, int64_t count) const {
    alignas(64) char staged[kStage * 8];
    while (count > 0) {
      const int64_t n = std::min(count, kStage);
      emit(index, n, staged, false);
      switch (size_) {
        case 8:
          scatter_staged<uint64_t>(staged, run_offset, position, n);
          break;
        case 4:
          scatter_staged<uint32_t>(staged, run_offset, position, n);
          break;
        case 2:
          scatter_staged<uint16_t>(staged, run_offset, position, n);
          break;
        default:
          scatter_staged<uint8_t>(staged, run_offset, position, n);
          break;
      }
      index += static_cast<uint64_t>(n);
      position += n;
      count -= n;
    }
  }

  template <typename Element>
  void scatter_staged(const char* staged, int64_t run_offset, int64_t position, int64_t n) const {
    const Region& region = task_.region;
    const Element* in = reinterpret_cast<const Element*>(staged);
    Element* data = static_cast<Element*>(task_.data) + run_offset;
    const int last = region.ndim - 1;
    while (n > 0) {
      const int64_t row = std::min(n, region.size[last] - position % region.size[last]);
      Element* out = data + offset_in_run(region, position);
      for (int64_t i = 0; i < row; ++i) out[i * region.stride[last]] = in[i];
      in += row;
      position += row;
      n -= row;
    }
  }

  // Whole blocks go to the tier's kernel; a block cut by either end goes through a copy.
  template <typename Element, int kPerBlock>
  void emit_blocks(uint64_t index, int64_t count, Element* out, bool stream) const {
    uint64_t block = index / kPerBlock;
    const int64_t skipped = static_cast<int64_t>(index % kPerBlock);
    if (skipped != 0) {
      const int64_t n = std::min<int64_t>(count, kPerBlock - skipped);
      emit_partial_block<Element, kPerBlock>(block++, skipped, n, out);
      out += n;
      count -= n;
    }
    const int64_t whole = count / kPerBlock;
    if (whole > 0) {
      generate(block, static_cast<size_t>(whole), out, stream && aligned_for_stream(out));
    }
    const int64_t rest = count % kPerBlock;
    if (rest > 0) {
      emit_partial_block<Element, kPerBlock>(block + static_cast<uint64_t>(whole), 0, rest,
                                             out + whole * kPerBlock);
    }
  }

  template <typename Element, int kPerBlock>
  void emit_partial_block(uint64_t block, int64_t skipped, int64_t n, Element* out) const {
    Element values[kPerBlock];
    generate(block, 1, values, false);
    std::copy_n(values + skipped, n, out);
  }

  void generate(uint64_t block, size_t blocks, uint32_t* out, bool) const {
    kernels_.words(task_.key, block, blocks, out);
  }
  void generate(uint64_t block, size_t blocks, float* out, bool stream) const {
    kernels_.values_f32(task_.distribution, task_.key, block, blocks, out, stream);
  }
  void generate(uint64_t block, size_t blocks, double* out, bool) const {
    kernels_.values_f64(task_.distribution, task_.key, block, blocks, out);
  }

  static bool aligned_for_stream(const void* out) {
    return reinterpret_cast<uintptr_t>(out) % kStreamAlignment == 0;
  }

  const FillTask& task_;
  const CpuKernels& kernels_;
  const int64_t size_;
  const bool stream_;
};

int64_t chunk_count(const FillTask& task) { return (task.region.numel + kChunk - 1) / kChunk; }

void fill_chunk(const FillTask& task, int64_t chunk, const CpuKernels& kernels) {
  const int64_t begin = chunk * kChunk;
  RegionFiller(task, kernels).fill(begin, std::min(begin + kChunk, task.region.numel));
}

}  // namespace

void host_fill(const FillTask* tasks, size_t count, const CpuKernels& kernels, int max_threads) {
  int64_t elements = 0;
  std::vector<int64_t> first_chunk(count + 1, 0);
  for (size_t i = 0; i < count; ++i) {
    elements += tasks[i].region.numel;
    first_chunk[i + 1] = first_chunk[i] + chunk_count(tasks[i]);
  }

  const int64_t useful = std::max<int64_t>(1, elements / kElementsPerThread);
  std::atomic<int64_t> next{0};
  ThreadTeam().run(static_cast<int>(std::min<int64_t>(useful, max_threads)), [&](int) {
    const DefaultFloatEnvironment environment;
    size_t task = 0;
    for (int64_t chunk; (chunk = next.fetch_add(1)) < first_chunk[count];) {
      while (chunk >= first_chunk[task + 1]) ++task;
      fill_chunk(tasks[task], chunk - first_chunk[task], kernels);
    }
  });
}

}  // namespace torch_init
