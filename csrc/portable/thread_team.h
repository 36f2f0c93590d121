// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdint.h>

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace torch_init {

// Threads that live for one call and meet at barriers. None outlives the call, so a process may
// fork between calls.
class ThreadTeam {
 public:
  // Runs body(index) on `size` threads, the caller being index 0, or on as many as the system
  // gives; on the caller alone if `size` is less than 2. The body must not throw.
  template <typename Body>
  void run(int size, const Body& body) {
    std::vector<std::thread> threads;
    if (size > 1) threads.reserve(static_cast<size_t>(size - 1));
    for (int index = 1; index < size; ++index) {
      expect(1);
      try {
        threads.emplace_back([&body, index] { body(index); });
      } catch (const std::exception&) {
        expect(-1);
        break;
      }
    }
    body(0);
    for (std::thread& thread : threads) thread.join();
  }

  // Returns once every thread of the team has come here. None passes before the caller has, and so
  // not before the size of the team is known.
  void barrier() {
    std::unique_lock<std::mutex> lock(mutex_);
    if (++arrived_ == expected_) {
      arrived_ = 0;
      ++generation_;
      all_arrived_.notify_all();
      return;
    }
    const int64_t generation = generation_;
    all_arrived_.wait(lock, [&] { return generation_ != generation; });
  }

 private:
  void expect(int change) {
    std::lock_guard<std::mutex> lock(mutex_);
    expected_ += change;
  }

  std::mutex mutex_;
  std::condition_variable all_arrived_;
  int expected_ = 1;
  int arrived_ = 0;
  int64_t generation_ = 0;
};

}  // namespace torch_init
