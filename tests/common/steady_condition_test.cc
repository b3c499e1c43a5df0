#include "common/base/steady_condition.h"

#include <gtest/gtest.h>

#include <thread>

namespace strata {
namespace {

constexpr auto kNever = [] { return false; };

TEST(SteadyConditionTest, WaitsUntilTheDeadline) {
  SteadyCondition condition;
  absl::Mutex mutex;
  absl::MutexLock lock(&mutex);
  const absl::Time start = SteadyNow();
  EXPECT_FALSE(condition.WaitFor(mutex, absl::Milliseconds(50), kNever));
  EXPECT_GE(SteadyNow() - start, absl::Milliseconds(50));
}

TEST(SteadyConditionTest, ADeadlineThatHasPassedIsNotWaitedFor) {
  SteadyCondition condition;
  absl::Mutex mutex;
  absl::MutexLock lock(&mutex);
  EXPECT_FALSE(condition.WaitUntil(mutex, absl::InfinitePast(), kNever));
  EXPECT_TRUE(condition.WaitUntil(mutex, absl::InfinitePast(), [] { return true; }));
}

TEST(SteadyConditionTest, EndsWhenItIsReady) {
  SteadyCondition condition;
  absl::Mutex mutex;
  bool ready = false;
  std::thread other([&] {
    absl::MutexLock lock(&mutex);
    ready = true;
    condition.NotifyAll();
  });
  {
    absl::MutexLock lock(&mutex);
    // Held again afterwards, or the other thread could not be waited for.
    EXPECT_TRUE(condition.WaitUntil(mutex, absl::InfiniteFuture(), [&] { return ready; }));
    mutex.AssertHeld();
  }
  other.join();
}

}  // namespace
}  // namespace strata
