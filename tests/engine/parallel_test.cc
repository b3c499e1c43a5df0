#include "services/verify/engine/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

namespace strata::engine {
namespace {

TEST(ParallelTest, EveryIndexOnce) {
  for (const int64_t count : {0, 1, 7, 1000, 4097}) {
    std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
    ParallelFor(count, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
    });
    for (const auto& visit : visits) EXPECT_EQ(visit, 1);
  }
}

// at::parallel_for is a plain loop in a file that is not compiled for OpenMP.
TEST(ParallelTest, LargeLoopsUseSeveralThreads) {
  if (std::thread::hardware_concurrency() < 2) GTEST_SKIP() << "this machine has one core";
  std::mutex mutex;
  std::set<std::thread::id> threads;
  ParallelFor(64, 1, [&](int64_t, int64_t) {
    const std::lock_guard<std::mutex> lock(mutex);
    threads.insert(std::this_thread::get_id());
  });
  EXPECT_GE(threads.size(), 2u);
}

TEST(ParallelTest, SmallLoopsStayOnTheCaller) {
  ParallelFor(8, 8, [&, caller = std::this_thread::get_id()](int64_t begin, int64_t end) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_EQ(end - begin, 8);
  });
}

// Each loop sees what the one before wrote, whichever thread did; small loops, too.
TEST(ParallelTest, TogetherThreadsGoFromLoopToLoop) {
  constexpr int64_t kLoops = 200;
  constexpr int64_t kSize = 37;
  std::vector<int64_t> values(kSize, 0);
  std::atomic<int> members = 0;
  RunTogether([&] {
    ++members;
    EXPECT_GE(ThreadIndex(), 0);
    EXPECT_LT(ThreadIndex(), ThreadCount());
    for (int64_t loop = 0; loop < kLoops; ++loop) {
      ParallelFor(1, 1, [&](int64_t, int64_t) { values.front() = values.back() + 1; });
      ParallelFor(kSize - 1, 1 << 20, [&](int64_t begin, int64_t end) {
        // Not values[i]: what the others write in this loop is theirs.
        for (int64_t i = begin; i < end; ++i) values[static_cast<size_t>(i + 1)] = values.front();
      });
    }
  });
  EXPECT_EQ(members, ThreadCount());
  for (const int64_t value : values) EXPECT_EQ(value, kLoops);
}

// Far longer than anybody spins for.
TEST(ParallelTest, WhoWaitsLongIsWoken) {
  std::vector<int> values(2, 0);
  RunTogether([&] {
    for (int loop = 1; loop <= 3; ++loop) {
      ParallelFor(2, 1, [&](int64_t begin, int64_t end) {
        if (begin == loop % 2) std::this_thread::sleep_for(std::chrono::milliseconds(20));
        for (int64_t i = begin; i < end; ++i) values[static_cast<size_t>(i)] = loop;
      });
      EXPECT_EQ(values, std::vector<int>(2, loop));
      ParallelFor(1, 1, [](int64_t, int64_t) {});
    }
  });
}

// One member works, the others wait for it.
TEST(ParallelTest, TogetherThreadsTellWhereTheirTimeWent) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  const WorkSeconds seconds = RunTogether([] {
    ParallelFor(8, 1, Work::kProducts, [](int64_t, int64_t) {});
    ParallelFor(1, 1, Work::kAttention, [](int64_t, int64_t) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    });
    ParallelFor(8, 1, [](int64_t, int64_t) {});
  });
  const std::chrono::duration<double> elapsed = Clock::now() - start;
  for (const double of_kind : seconds) EXPECT_GT(of_kind, 0);
  EXPECT_GE(seconds[static_cast<size_t>(Work::kAttention)], 0.05);
  EXPECT_LE(std::accumulate(seconds.begin(), seconds.end(), 0.0), ThreadCount() * elapsed.count());
}

TEST(ParallelTest, LoopsAfterwardsAreOfTheirOwn) {
  RunTogether([] {});
  int64_t count = 0;
  ParallelFor(8, 8, [&](int64_t begin, int64_t end) { count += end - begin; });
  EXPECT_EQ(count, 8);
}

}  // namespace
}  // namespace strata::engine
