#include "services/verify/engine/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <mutex>
#include <new>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "services/verify/engine/team_threads.h"

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
  int64_t small = 0;
  ParallelFor(8, 8, [&](int64_t begin, int64_t end) { small += end - begin; });
  EXPECT_EQ(small, 8);
  for (const int64_t count : {1, 2, 7, 1000}) {
    std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
    ParallelFor(count, 1, [&](int64_t begin, int64_t end) {
      EXPECT_GE(ThreadIndex(), 0);
      EXPECT_LT(ThreadIndex(), ThreadCount());
      for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
    });
    for (const auto& visit : visits) EXPECT_EQ(visit, 1);
  }
}

TEST(ParallelTest, LoopsThrowWhatAPartThrows) {
  RunTogether([] {});
  for (const int64_t thrower : {0, 63}) {
    const auto loop = [&](int64_t begin, int64_t end) {
      if (begin <= thrower && thrower < end) throw std::bad_alloc();
    };
    EXPECT_THROW(ParallelFor(64, 1, loop), std::bad_alloc);
  }
  // And are whole afterwards.
  std::atomic<int64_t> sum = 0;
  ParallelFor(64, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
  EXPECT_EQ(sum, 64);
}

TEST(ParallelTest, ALoopInALoopStaysOnItsThread) {
  RunTogether([] {});
  std::atomic<int64_t> sum = 0;
  ParallelFor(64, 1, [&](int64_t, int64_t) {
    ParallelFor(1000, 1, [&, caller = std::this_thread::get_id()](int64_t begin, int64_t end) {
      EXPECT_EQ(std::this_thread::get_id(), caller);
      sum += end - begin;
    });
  });
  EXPECT_EQ(sum % 1000, 0);
  EXPECT_GE(sum, 1000);
}

// Its team ends with it.
TEST(ParallelTest, EachThreadHasItsOwnTeam) {
  std::atomic<int> members = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        RunTogether([&] {
          ParallelFor(64, 1, [](int64_t, int64_t) {});
          ++members;
        });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(members, 3 * 20 * ThreadCount());
}

TEST(TeamThreadsTest, EachMemberIsCalledOnce) {
  TeamThreads team;
  for (const int count : {0, 3, 1}) {
    team.Grow(count, /*spin=*/true);
    for (int members = 1; members <= team.count() + 1; ++members) {
      std::vector<int> calls(static_cast<size_t>(members));
      std::mutex mutex;
      std::set<std::thread::id> threads;
      team.Run(members, [&](int member) {
        const std::lock_guard<std::mutex> lock(mutex);
        ++calls[static_cast<size_t>(member)];
        threads.insert(std::this_thread::get_id());
      });
      EXPECT_EQ(calls, std::vector<int>(static_cast<size_t>(members), 1));
      EXPECT_EQ(threads.size(), static_cast<size_t>(members));
    }
  }
  EXPECT_EQ(team.count(), 3);
}

class TeamThreadsSpinTest : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Spin, TeamThreadsSpinTest, testing::Bool());

// One that has been asleep, and one that is called before it is.
TEST_P(TeamThreadsSpinTest, AreWokenFromSleep) {
  TeamThreads team;
  team.Grow(1, GetParam());
  int calls = 0;
  for (int i = 0; i < 200; ++i) {
    if (i % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    team.Run(2, [&](int member) {
      if (member == 1) ++calls;
    });
    EXPECT_EQ(calls, i + 1);
  }
}

// They keep no core from others: OpenMP's threads spin for milliseconds.
TEST_P(TeamThreadsSpinTest, SleepWhenThereIsNothingToDo) {
  const auto cpu_seconds = [] { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; };
  TeamThreads team;
  team.Grow(2, GetParam());
  team.Run(3, [](int) {});
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  EXPECT_LT(cpu_seconds() - before, 0.25);
}

}  // namespace
}  // namespace strata::engine
