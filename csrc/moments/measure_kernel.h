// SPDX-License-Identifier: Apache-2.0
//
// The measuring kernels' bodies, for host and device (portable/thread_block.h).
//
//   regions -> chunks of kMeasureChunk elements, one of which a block reads at a time
//   chunk   -> vectors of 16 bytes, of which a thread always reads those with one place in a page
//              of the fingerprint's image; or elements, where memory is not like the image
//
// A block adds up what its threads have read in a tree; a second kernel adds up each region's
// chunks. Neither depends on the number of blocks.
#pragma once

#include "moments/measure.h"
#include "moments/tally.h"

namespace torch_init {

constexpr int kMeasureThreads = 256;
constexpr int kVectorBytes = 16;
constexpr int kVectorWords = kVectorBytes / 4;
static_assert(kMeasureThreads * kVectorBytes == kPageBytes, "each thread has its place in a page");

struct VectorWords {
  uint32_t word[kVectorWords];
};

TI_HOST_DEVICE VectorWords load_vector(const void* at) {
  VectorWords words;
#if defined(__CUDA_ARCH__)
  const uint4 loaded = *static_cast<const uint4*>(at);
  words = {{loaded.x, loaded.y, loaded.z, loaded.w}};
#else
  memcpy(&words, at, sizeof words);
#endif
  return words;
}

// Element i of a vector.
template <typename Code>
TI_HOST_DEVICE Code code_in_vector(const VectorWords& words, int i) {
  if constexpr (sizeof(Code) == 8) {
    return static_cast<Code>(words.word[2 * i] | static_cast<uint64_t>(words.word[2 * i + 1])
                                                     << 32);
  } else {
    constexpr int kPerWord = 4 / sizeof(Code);
    const int shift = static_cast<int>(8 * sizeof(Code)) * (i % kPerWord);
    return static_cast<Code>(words.word[i / kPerWord] >> shift);
  }
}

// The sum of a vector's words in the image, times the factors of their places.
template <typename Code>
TI_HOST_DEVICE uint64_t vector_term(const VectorWords& words, const uint64_t (&factor)[4]) {
  using Unsigned = typename UnsignedOf<Code>::Type;
  VectorWords image = {};
  for (int i = 0; i < kVectorBytes / static_cast<int>(sizeof(Code)); ++i) {
    const Unsigned code = image_code(static_cast<Unsigned>(code_in_vector<Code>(words, i)));
    if constexpr (sizeof(Code) == 8) {
      image.word[2 * i] = static_cast<uint32_t>(code);
      image.word[2 * i + 1] = static_cast<uint32_t>(code >> 32);
    } else {
      constexpr int kPerWord = 4 / sizeof(Code);
      const int shift = static_cast<int>(8 * sizeof(Code)) * (i % kPerWord);
      image.word[i / kPerWord] |= static_cast<uint32_t>(code) << shift;
    }
  }
  uint64_t term = 0;
  for (int i = 0; i < kVectorWords; ++i) term += factor[i] * image.word[i];
  return term;
}

// What one thread reads of elements [begin, end) of a region.
template <typename Format>
class ThreadShare {
 public:
  using Code = typename Format::Code;
  using Unsigned = typename UnsignedOf<Code>::Type;
  static constexpr int64_t kPerVector = kVectorBytes / sizeof(Code);

  TI_HOST_DEVICE_MEMBER ThreadShare(const MeasureTask& task, int thread)
      : task_(task), thread_(thread) {}

  TI_HOST_DEVICE_MEMBER void read(int64_t begin, int64_t end, Moments* moments) {
    if (image_is_in_memory()) {
      read_vectors(begin, end);
    } else {
      for (int64_t i = begin + thread_; i < end; i += kMeasureThreads) read_element(i);
    }
    tally_.add_to(count_, moments);
  }

 private:
  // Whether memory is dense, in the image's order, and aligned as its vectors are.
  TI_HOST_DEVICE_MEMBER bool image_is_in_memory() const {
    const uint64_t into_vector = task_.region.first_index % kPerVector * sizeof(Code);
    const uint64_t address = reinterpret_cast<uintptr_t>(task_.data);
    return task_.region.runs == 1 && task_.region.runs_contiguous &&
           (address - into_vector) % kVectorBytes == 0;
  }

  TI_HOST_DEVICE_MEMBER void read_vectors(int64_t begin, int64_t end) {
    const uint64_t first = task_.region.first_index;
    const uint64_t begin_index = first + static_cast<uint64_t>(begin);
    const uint64_t end_index = first + static_cast<uint64_t>(end);
    uint64_t factor[kVectorWords];
    for (int i = 0; i < kVectorWords; ++i) {
      factor[i] = place_factor(static_cast<uint64_t>(thread_ * kVectorWords + i));
    }
    const uint64_t begin_page = begin_index / kPerVector / kMeasureThreads;
    for (uint64_t page = begin_page;; ++page) {
      const uint64_t index = (page * kMeasureThreads + static_cast<uint64_t>(thread_)) * kPerVector;
      if (index >= end_index) return;
      const int64_t position = static_cast<int64_t>(index - first);
      if (index >= begin_index && index + kPerVector <= end_index) {
        const VectorWords words = load_vector(static_cast<const Code*>(task_.data) + position);
        tally_.add_fingerprint(page_factor(page) * vector_term<Code>(words, factor));
        for (int i = 0; i < kPerVector; ++i) tally_.add(code_in_vector<Code>(words, i), Limits{});
        count_ += kPerVector;
      } else {
        for (int64_t i = position; i < position + kPerVector; ++i) {
          if (i >= begin && i < end) read_element(i);
        }
      }
    }
  }

  TI_HOST_DEVICE_MEMBER void read_element(int64_t i) {
    const Region& region = task_.region;
    const int64_t run = region.runs == 1 ? 0 : i / region.run_length;
    const int64_t position = i - run * region.run_length;
    const RunStart start = run_start(region, run);
    const int64_t at = start.offset + offset_in_run(region, position);
    const Code bits = static_cast<const Code*>(task_.data)[at];
    const uint64_t index = start.index + static_cast<uint64_t>(position);
    tally_.add(bits, Limits{});
    tally_.add_fingerprint(fingerprint_term(index, static_cast<Unsigned>(bits)));
    count_ += 1;
  }

  const MeasureTask& task_;
  int thread_;
  int64_t count_ = 0;
  Tally<Format, Reading::kFingerprint> tally_;
};

// Regions and the chunks they begin at: region i has first_chunk[i] ... first_chunk[i + 1] - 1.
struct MeasureList {
  const MeasureTask* tasks;
  const int64_t* first_chunk;
  int64_t count;
};

TI_HOST_DEVICE int64_t task_of_chunk(const MeasureList& list, int64_t chunk) {
  int64_t low = 0;
  int64_t high = list.count;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (list.first_chunk[middle] <= chunk) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// Adds up the moments of a block's threads; the sum is that of thread 0.
template <typename Block>
TI_HOST_DEVICE void add_up_block(const Block& block, Moments* of_thread) {
  for (int width = kMeasureThreads / 2; width > 0; width /= 2) {
    block.barrier();
    block.for_each_thread([&](int thread) {
      if (thread < width) add_moments(&of_thread[thread], of_thread[thread + width]);
    });
  }
}

// One block's share of the chunks: of_chunk[i] becomes what chunk i holds.
template <typename Block>
TI_HOST_DEVICE void measure_chunks(const Block& block, const MeasureList& list, Moments* of_thread,
                                   Moments* of_chunk) {
  const int64_t chunks = list.first_chunk[list.count];
  for (int64_t chunk = block.index(); chunk < chunks; chunk += block.count()) {
    const int64_t i = task_of_chunk(list, chunk);
    const MeasureTask& task = list.tasks[i];
    const int64_t begin = (chunk - list.first_chunk[i]) * kMeasureChunk;
    const int64_t left = task.region.numel - begin;
    const int64_t end = begin + (left < kMeasureChunk ? left : kMeasureChunk);
    block.for_each_thread([&](int thread) {
      of_thread[thread] = no_moments();
      with_format(task.dtype, [&](auto format) {
        ThreadShare<decltype(format)>(task, thread).read(begin, end, &of_thread[thread]);
      });
    });
    add_up_block(block, of_thread);
    block.for_each_thread([&](int thread) {
      if (thread == 0) of_chunk[chunk] = of_thread[0];
    });
    block.barrier();
  }
}

// One block's share of the regions: of_task[i] becomes what region i holds.
template <typename Block>
TI_HOST_DEVICE void add_up_chunks(const Block& block, const MeasureList& list,
                                  const Moments* of_chunk, Moments* of_thread, Moments* of_task) {
  for (int64_t i = block.index(); i < list.count; i += block.count()) {
    block.for_each_thread([&](int thread) {
      Moments moments = no_moments();
      for (int64_t chunk = list.first_chunk[i] + thread; chunk < list.first_chunk[i + 1];
           chunk += kMeasureThreads) {
        add_moments(&moments, of_chunk[chunk]);
      }
      of_thread[thread] = moments;
    });
    add_up_block(block, of_thread);
    block.for_each_thread([&](int thread) {
      if (thread == 0) of_task[i] = of_thread[0];
    });
    block.barrier();
  }
}

}  // namespace torch_init
