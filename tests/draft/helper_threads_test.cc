#include "services/draft/hierarchy/helper_threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <new>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"

namespace strata::draft {
namespace {

TEST(HelperThreadsTest, EachPartIsDoneOnce) {
  for (const int helpers : {0, 1, 3}) {
    HelperThreads threads(helpers);
    for (const int parts : {0, 1, 2, 3, 50}) {
      std::vector<std::atomic<int>> done(static_cast<size_t>(parts));
      threads.Run(parts, [&](int part) { ++done[static_cast<size_t>(part)]; });
      for (const auto& times : done) EXPECT_EQ(times, 1) << helpers << " helpers, " << parts;
    }
  }
}

TEST(HelperThreadsTest, HelpersWorkBesideTheCaller) {
  HelperThreads threads(2);
  absl::Mutex mutex;
  int begun = 0;
  threads.Run(3, [&](int) {
    absl::MutexLock lock(&mutex);
    ++begun;
    // No part ends before all three are under way.
    const auto all = [&begun] { return begun == 3; };
    mutex.Await(absl::Condition(&all));
  });
  EXPECT_EQ(begun, 3);
}

TEST(HelperThreadsTest, WhatAPartThrowsReachesTheCaller) {
  for (const int helpers : {0, 2}) {
    HelperThreads threads(helpers);
    for (int bad = 0; bad < 4; ++bad) {
      EXPECT_THROW(threads.Run(4,
                               [bad](int part) {
                                 if (part == bad) throw std::bad_alloc();
                               }),
                   std::bad_alloc);
    }
    std::atomic<int> done = 0;
    threads.Run(4, [&done](int) { ++done; });
    EXPECT_EQ(done, 4);
  }
}

TEST(HelperThreadsTest, ManyCallersAtOnce) {
  HelperThreads threads(2);
  std::vector<std::thread> callers;
  std::vector<std::atomic<int>> sums(4);
  for (std::atomic<int>& sum : sums) {
    callers.emplace_back([&threads, &sum] {
      for (int i = 0; i < 500; ++i) threads.Run(5, [&sum](int part) { sum += part; });
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (const auto& sum : sums) EXPECT_EQ(sum, 500 * (0 + 1 + 2 + 3 + 4));
}

}  // namespace
}  // namespace strata::draft
