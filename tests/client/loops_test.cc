#include "services/client/load/loops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "services/client/load/summary.h"

namespace strata::client::load {
namespace {

bool Never() { return false; }

void Sleep(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

// A service that takes some time, and counts.
class FakeService {
 public:
  explicit FakeService(int milliseconds) : milliseconds_(milliseconds) {}

  Outcome Answer(size_t index, Start start) {
    const int live = ++live_;
    int most = most_.load();
    while (live > most && !most_.compare_exchange_weak(most, live)) {
    }
    Sleep(milliseconds_);
    --live_;
    absl::MutexLock lock(&mutex_);
    indices_.insert(index);
    return {.status = absl::OkStatus(), .chunks = {{SecondsSince(start), 1}}, .statistics = {}};
  }
  Send AsSend() {
    return [this](size_t index, Start start) { return Answer(index, start); };
  }

  int most() const { return most_; }
  std::multiset<size_t> indices() const {
    absl::MutexLock lock(&mutex_);
    return indices_;
  }

 private:
  const int milliseconds_;
  std::atomic<int> live_ = 0;
  std::atomic<int> most_ = 0;
  mutable absl::Mutex mutex_;
  std::multiset<size_t> indices_ ABSL_GUARDED_BY(mutex_);
};

std::multiset<size_t> Below(size_t count) {
  std::multiset<size_t> indices;
  for (size_t i = 0; i < count; ++i) indices.insert(i);
  return indices;
}

TEST(ClosedLoop, SendsEachRequestOnceAndSoManyAtATime) {
  FakeService service(5);
  // On a busy machine too: the first four wait for each other.
  std::atomic<int> sent = 0;
  absl::Notification four;
  const Send send = [&](size_t index, Start start) {
    if (++sent == 4) four.Notify();
    EXPECT_TRUE(four.WaitForNotificationWithTimeout(absl::Seconds(60)));
    return service.Answer(index, start);
  };
  const LoadRun run = RunClosedLoop(4, {.requests = 18}, send, Never);
  EXPECT_EQ(service.indices(), Below(18));
  EXPECT_LE(service.most(), 4);
  ASSERT_EQ(run.records.size(), 18u);
  double last = 0;
  for (const Record& record : run.records) {
    EXPECT_EQ(record.due, record.sent);
    EXPECT_LT(record.sent, record.done);
    last = std::max(last, record.done);
  }
  EXPECT_EQ(run.seconds, last);
  // The load fell when the first client found nothing to send.
  EXPECT_GT(run.loaded_seconds, 0);
  EXPECT_LE(run.loaded_seconds, run.seconds);
}

TEST(ClosedLoop, BeginsRequestsForSomeTime) {
  FakeService service(50);
  const LoadRun run = RunClosedLoop(2, {.seconds = 0.5}, service.AsSend(), Never);
  EXPECT_GE(run.records.size(), 1u);
  EXPECT_LE(run.records.size(), 22u);
  EXPECT_GE(run.loaded_seconds, 0.4);
  EXPECT_LE(run.loaded_seconds, run.seconds);
}

TEST(ClosedLoop, DoesNotHammerAServiceThatRefuses) {
  const Send refuse = [](size_t, Start) {
    return Outcome{.status = absl::UnavailableError("no"), .chunks = {}, .statistics = {}};
  };
  const LoadRun run = RunClosedLoop(2, {.seconds = 0.35}, refuse, Never);
  EXPECT_GE(run.records.size(), 1u);
  EXPECT_LE(run.records.size(), 8u);
}

TEST(ClosedLoop, Stops) {
  FakeService service(5);
  const auto stopped = [&] { return service.indices().size() >= 6; };
  const LoadRun run = RunClosedLoop(2, {.requests = 1000}, service.AsSend(), stopped);
  EXPECT_GE(run.records.size(), 6u);
  EXPECT_LE(run.records.size(), 8u);
}

TEST(OpenLoop, DoesNotWaitForTheService) {
  // No request is answered before all have been sent.
  std::atomic<int> sent = 0;
  absl::Notification all;
  const Send send = [&](size_t, Start start) {
    if (++sent == 20) all.Notify();
    EXPECT_TRUE(all.WaitForNotificationWithTimeout(absl::Seconds(60)));
    return Outcome{
        .status = absl::OkStatus(), .chunks = {{SecondsSince(start), 1}}, .statistics = {}};
  };
  std::vector<double> arrivals;
  for (int i = 0; i < 20; ++i) arrivals.push_back(0.005 * i);
  const LoadRun run = RunOpenLoop(arrivals, send, Never);
  ASSERT_EQ(run.records.size(), 20u);
  EXPECT_EQ(run.loaded_seconds, arrivals.back());
  for (const Record& record : run.records) {
    EXPECT_EQ(record.due, arrivals[record.index]);
    EXPECT_GE(record.sent, record.due);
    // All ended when the last had come: the earlier ones waited, and it shows.
    EXPECT_GE(record.done - record.due, arrivals.back() - record.due);
  }
}

TEST(OpenLoop, ThreadsAreUsedAgain) {
  std::set<std::thread::id> threads;
  absl::Mutex mutex;
  const Send send = [&](size_t, Start) {
    absl::MutexLock lock(&mutex);
    threads.insert(std::this_thread::get_id());
    return Outcome{};
  };
  EXPECT_EQ(RunOpenLoop({0, 0.2, 0.4, 0.6, 0.8}, send, Never).records.size(), 5u);
  EXPECT_LT(threads.size(), 5u);
}

TEST(OpenLoop, Stops) {
  FakeService service(1);
  const auto stopped = [&] { return !service.indices().empty(); };
  const LoadRun run = RunOpenLoop({0, 3600}, service.AsSend(), stopped);
  EXPECT_EQ(run.records.size(), 1u);
}

TEST(OpenLoop, WithoutArrivals) {
  FakeService service(1);
  EXPECT_TRUE(RunOpenLoop({}, service.AsSend(), Never).records.empty());
}

}  // namespace
}  // namespace strata::client::load
