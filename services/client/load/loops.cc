#include "services/client/load/loops.h"

#include <algorithm>
#include <deque>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "services/client/load/arrivals.h"
#include "services/client/load/plan.h"

namespace strata::client::load {
namespace {

using std::chrono::steady_clock;

// A service that refuses is not asked again in the same instant: a run of some seconds would count
// nothing but refusals.
constexpr std::chrono::milliseconds kPauseAfterFailure(100);
// How soon a wait for the next arrival notices that it is over.
constexpr std::chrono::milliseconds kPollInterval(20);

steady_clock::time_point After(Start start, double seconds) {
  return start +
         std::chrono::duration_cast<steady_clock::duration>(std::chrono::duration<double>(seconds));
}

Record SendOne(size_t index, double due, Start start, const Send& send) {
  Record record;
  record.index = index;
  record.due = due;
  record.sent = SecondsSince(start);
  record.outcome = send(index, start);
  record.done = SecondsSince(start);
  return record;
}

double LastDone(const std::vector<Record>& records) {
  double last = 0;
  for (const Record& record : records) last = std::max(last, record.done);
  return last;
}

// Gives out a closed loop's requests, and keeps what came of them. Thread-safe.
class ClosedLoop {
 public:
  ClosedLoop(const Extent& extent, const Send& send, const Stopped& stopped)
      : extent_(extent), send_(send), stopped_(stopped), start_(steady_clock::now()) {}

  // One of the concurrent clients: returns when there is nothing left to send.
  void RunClient() {
    size_t index = 0;
    while (Take(index)) {
      Record record = SendOne(index, SecondsSince(start_), start_, send_);
      // It was due when it was sent: a closed loop's client waits by design.
      record.due = record.sent;
      const bool failed = !record.outcome.status.ok();
      {
        absl::MutexLock lock(&mutex_);
        run_.records.push_back(std::move(record));
      }
      if (failed && !stopped_()) std::this_thread::sleep_for(kPauseAfterFailure);
    }
  }

  LoadRun Finish() {
    absl::MutexLock lock(&mutex_);
    run_.seconds = LastDone(run_.records);
    // It is found a moment later that nothing is left to send.
    run_.loaded_seconds = std::min(run_.loaded_seconds, run_.seconds);
    return std::move(run_);
  }

 private:
  bool Take(size_t& index) {
    const double now = SecondsSince(start_);
    const bool stopped = stopped_();
    absl::MutexLock lock(&mutex_);
    if (!over_ && !stopped &&
        (extent_.requests > 0 ? next_ < extent_.requests : now < extent_.seconds)) {
      index = next_++;
      return true;
    }
    if (!over_) run_.loaded_seconds = now;
    over_ = true;
    return false;
  }

  const Extent& extent_;
  const Send& send_;
  const Stopped& stopped_;
  const Start start_;
  absl::Mutex mutex_;
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  LoadRun run_ ABSL_GUARDED_BY(mutex_);
};

// Sends what has arrived, on as many threads as requests are under way, up to kMaxConcurrency; over
// it arrivals wait here, which counts as latency like any wait. Thread-safe.
class Senders {
 public:
  Senders(Start start, const Send& send) : start_(start), send_(send) {}

  void Add(size_t index, double due) {
    bool busy = false;
    {
      absl::MutexLock lock(&mutex_);
      waiting_.push_back({index, due});
      busy = idle_ < waiting_.size();
      changed_.Signal();
    }
    if (busy && threads_.size() < kMaxConcurrency) {
      threads_.emplace_back([this] { Work(); });
    }
  }

  // When all requests are done.
  std::vector<Record> Finish() {
    {
      absl::MutexLock lock(&mutex_);
      over_ = true;
      changed_.SignalAll();
    }
    for (std::thread& thread : threads_) thread.join();
    absl::MutexLock lock(&mutex_);
    return std::move(records_);
  }

 private:
  struct Arrival {
    size_t index;
    double due;
  };

  void Work() {
    Arrival arrival{};
    while (Take(arrival)) {
      Record record = SendOne(arrival.index, arrival.due, start_, send_);
      absl::MutexLock lock(&mutex_);
      records_.push_back(std::move(record));
    }
  }

  bool Take(Arrival& arrival) {
    absl::MutexLock lock(&mutex_);
    ++idle_;
    while (waiting_.empty() && !over_) changed_.Wait(&mutex_);
    --idle_;
    if (waiting_.empty()) return false;
    arrival = waiting_.front();
    waiting_.pop_front();
    return true;
  }

  const Start start_;
  const Send& send_;
  // Touched by the thread that adds alone.
  std::vector<std::thread> threads_;
  absl::Mutex mutex_;
  absl::CondVar changed_;
  std::deque<Arrival> waiting_ ABSL_GUARDED_BY(mutex_);
  size_t idle_ ABSL_GUARDED_BY(mutex_) = 0;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Record> records_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

double SecondsSince(Start start) {
  return std::chrono::duration<double>(steady_clock::now() - start).count();
}

LoadRun RunClosedLoop(int concurrency, const Extent& extent, const Send& send,
                      const Stopped& stopped) {
  ClosedLoop loop(extent, send, stopped);
  std::vector<std::thread> clients;
  clients.reserve(static_cast<size_t>(concurrency));
  for (int i = 0; i < concurrency; ++i) clients.emplace_back([&loop] { loop.RunClient(); });
  for (std::thread& client : clients) client.join();
  return loop.Finish();
}

LoadRun RunOpenLoop(const std::vector<double>& arrivals, const Send& send, const Stopped& stopped) {
  const Start start = steady_clock::now();
  Senders senders(start, send);
  LoadRun run;
  for (size_t index = 0; index < arrivals.size() && !stopped(); ++index) {
    const steady_clock::time_point due = After(start, arrivals[index]);
    while (steady_clock::now() < due && !stopped()) {
      std::this_thread::sleep_until(std::min(due, steady_clock::now() + kPollInterval));
    }
    if (stopped()) break;
    senders.Add(index, arrivals[index]);
    run.loaded_seconds = arrivals[index];
  }
  run.records = senders.Finish();
  run.seconds = LastDone(run.records);
  return run;
}

std::vector<double> MakeArrivals(double rate, const Extent& extent, uint64_t seed) {
  PoissonArrivals process(rate, seed);
  std::vector<double> arrivals;
  while (extent.requests == 0 || arrivals.size() < extent.requests) {
    const double next = process.Next();
    if (extent.requests == 0 && next >= extent.seconds) break;
    arrivals.push_back(next);
  }
  return arrivals;
}

}  // namespace strata::client::load
