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
#include "moments/word_tally.h"

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
  const uint4 loaded = __ldg(static_cast<const uint4*>(at));
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

// Calls use(words, i) for vectors i < count of a thread, which lie a page apart; kAtOnce, of which
// count is a multiple, are on their way at once.
template <int kAtOnce, typename Use>
TI_HOST_DEVICE void for_each_vector(const void* first, int count, const Use& use) {
  const char* at = static_cast<const char*>(first);
#pragma unroll 1
  for (int i = 0; i < count; i += kAtOnce) {
    VectorWords words[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) words[j] = load_vector(at + j * kPageBytes);
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) use(words[j], i + j);
    at += kAtOnce * kPageBytes;
  }
}

// Of a thread's vectors, so many are read by words.
constexpr int kVectorsAtOnce = 4;
TI_HOST_DEVICE int read_by_words(int vectors) { return vectors / kVectorsAtOnce * kVectorsAtOnce; }

// image_code of each of a word's elements of kBytes bytes.
template <int kBytes>
TI_HOST_DEVICE uint32_t image_word(uint32_t word) {
  constexpr uint32_t kLowest = kBytes == 1 ? 0x01010101u : kBytes == 2 ? 0x00010001u : 1u;
  return ~(((word << 1) & ~kLowest) | ((word >> (8 * kBytes - 1)) & kLowest));
}

// The sum of a vector's words in the image, times the factors of their places.
template <typename Code>
TI_HOST_DEVICE uint64_t vector_term(const VectorWords& words, const uint64_t (&factor)[4]) {
  uint64_t term = 0;
  for (int i = 0; i < kVectorWords; ++i) {
    uint32_t image;
    if constexpr (sizeof(Code) == 8) {
      const uint64_t code = image_code(static_cast<uint64_t>(code_in_vector<Code>(words, i / 2)));
      image = static_cast<uint32_t>(code >> (32 * (i % 2)));
    } else {
      image = image_word<sizeof(Code)>(words.word[i]);
    }
    term += factor[i] * image;
  }
  return term;
}

// The pages that a chunk's elements of at most 8 bytes may touch.
constexpr int kMostPages = kMeasureChunk * 8 / kPageBytes + 1;

// What one thread reads of elements [begin, end) of a region.
template <typename Format>
class ThreadShare {
 public:
  using Code = typename Format::Code;
  using Unsigned = typename UnsignedOf<Code>::Type;
  static constexpr int64_t kPerVector = kVectorBytes / sizeof(Code);
  static constexpr int64_t kPerPage = kPageBytes / sizeof(Code);

  TI_HOST_DEVICE_MEMBER ThreadShare(const MeasureTask& task, int thread)
      : task_(task), thread_(thread) {}

  // page_factors begin with that of the page of `begin`.
  TI_HOST_DEVICE_MEMBER void read(int64_t begin, int64_t end, const uint64_t* page_factors,
                                  Moments* moments) {
    // What is not read by vectors: `head` elements, and every step-th from `tail` on.
    int64_t head = 0;
    int64_t tail = begin + thread_;
    int64_t step = kMeasureThreads;
    if (image_is_in_memory()) {
      // A thread's vectors, one of each page. The ends of [begin, end) may cut the first and last.
      const uint64_t begin_index = task_.region.first_index + static_cast<uint64_t>(begin);
      int64_t at = begin - static_cast<int64_t>(begin_index % kPerPage) + thread_ * kPerVector;
      if (at < begin) {
        const int64_t head_end = at + kPerVector < end ? at + kPerVector : end;
        head = head_end > begin ? head_end - begin : 0;
        at += kPerPage;
        page_factors += 1;
      }
      const int whole =
          end - at < kPerVector ? 0 : static_cast<int>((end - at - kPerVector) / kPerPage) + 1;
      read_whole(at, whole, page_factors, moments);
      tail = at + whole * kPerPage;
      step = 1;
    }
    for (int64_t i = 0;; ++i) {
      const int64_t element = i < head ? begin + i : tail + (i - head) * step;
      if (element >= end) break;
      read_element(element);
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

  TI_HOST_DEVICE_MEMBER void read_whole(int64_t at, int count, const uint64_t* page_factors,
                                        Moments* moments) {
    const Code* const data = static_cast<const Code*>(task_.data) + at;
    uint64_t factor[kVectorWords];
    for (int i = 0; i < kVectorWords; ++i) {
      factor[i] = place_factor(static_cast<uint64_t>(thread_ * kVectorWords + i));
    }
    int done = 0;
    if constexpr (WordTally<Format, Reading::kFingerprint>::kReads) {
      WordTally<Format, Reading::kFingerprint> words;
      uint64_t fingerprint = 0;
      done = read_by_words(count);
      for_each_vector<kVectorsAtOnce>(data, done, [&](const VectorWords& vector, int i) {
        for (int k = 0; k < kVectorWords; ++k) words.add(vector.word[k]);
        fingerprint += page_factors[i] * vector_term<Code>(vector, factor);
      });
      if (words.all_finite()) {
        words.add_to(done * kPerVector, moments);
        tally_.add_fingerprint(fingerprint);
      } else {
        done = 0;
      }
    }
    for_each_vector<1>(data + done * kPerPage, count - done, [&](const VectorWords& vector, int i) {
      tally_.add_fingerprint(page_factors[done + i] * vector_term<Code>(vector, factor));
      for (int j = 0; j < kPerVector; ++j) tally_.add(code_in_vector<Code>(vector, j), Limits{});
      count_ += kPerVector;
    });
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

// Shared memory of a block.
struct MeasureShared {
  Moments of_thread[kMeasureThreads];
  uint64_t page_factor[kMostPages];
};

// One block's share of the chunks: of_chunk[i] becomes what chunk i holds.
template <typename Block>
TI_HOST_DEVICE void measure_chunks(const Block& block, const MeasureList& list,
                                   MeasureShared* shared, Moments* of_chunk) {
  const int64_t chunks = list.first_chunk[list.count];
  for (int64_t chunk = block.index(); chunk < chunks; chunk += block.count()) {
    const int64_t i = task_of_chunk(list, chunk);
    const MeasureTask& task = list.tasks[i];
    const int64_t begin = (chunk - list.first_chunk[i]) * kMeasureChunk;
    const int64_t left = task.region.numel - begin;
    const int64_t end = begin + (left < kMeasureChunk ? left : kMeasureChunk);
    block.for_each_thread([&](int thread) {
      if (thread >= kMostPages) return;
      const uint64_t in_page = static_cast<uint64_t>(kPageBytes / element_size(task.dtype));
      const uint64_t first_page =
          (task.region.first_index + static_cast<uint64_t>(begin)) / in_page;
      shared->page_factor[thread] = page_factor(first_page + static_cast<uint64_t>(thread));
    });
    block.barrier();
    block.for_each_thread([&](int thread) {
      Moments* const moments = &shared->of_thread[thread];
      *moments = no_moments();
      with_format(task.dtype, [&](auto format) {
        ThreadShare<decltype(format)>(task, thread).read(begin, end, shared->page_factor, moments);
      });
    });
    add_up_block(block, shared->of_thread);
    block.for_each_thread([&](int thread) {
      if (thread == 0) of_chunk[chunk] = shared->of_thread[0];
    });
    // What comes next has its barrier before anybody's moments are written again.
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
