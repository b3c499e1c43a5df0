#include "services/verify/engine/parallel.h"

#include <ATen/Parallel.h>
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <vector>

#include "services/verify/engine/spin.h"
#include "services/verify/engine/team_threads.h"

#if !defined(_OPENMP)
#error "compile this file for OpenMP: at::parallel_for is a plain loop without"
#endif

#if defined(__SANITIZE_THREAD__)
// libgomp is not instrumented: where threads start and end is told to the sanitizer here.
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#define STRATA_TSAN_ACQUIRE(address) __tsan_acquire(address)
#define STRATA_TSAN_RELEASE(address) __tsan_release(address)
#else
#define STRATA_TSAN_ACQUIRE(address) static_cast<void>(address)
#define STRATA_TSAN_RELEASE(address) static_cast<void>(address)
#endif

namespace strata::engine {
namespace {

// Whether so many threads have a core each. If not, one that spins keeps others from working.
bool HaveCores(int threads) { return threads <= omp_get_num_procs(); }

// Where the members of a team meet.
class Meeting {
 public:
  // Returns when all of so many members have come here.
  void Await(int members) {
    const uint32_t round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      round_.notify_all();
      return;
    }
    AwaitChange(round_, round, spins_);
  }

 private:
  // Under a millisecond: the others take no longer, unless another process holds a core.
  static constexpr int kSpins = 10'000;

  const int spins_ = HaveCores(ThreadCount()) ? kSpins : 0;
  // Each on a line of its own.
  alignas(64) std::atomic<int> arrived_ = 0;
  alignas(64) std::atomic<uint32_t> round_ = 0;
};

using Clock = std::chrono::steady_clock;

// Of the calling thread within RunTogether; 0 members: not within it.
struct Team {
  int member = 0;
  int members = 0;
  Meeting* meeting = nullptr;
  WorkSeconds seconds = {};
  Clock::time_point since = {};

  // What has passed since the last call was spent on `work`.
  void Spent(Work work) {
    const Clock::time_point now = Clock::now();
    seconds[static_cast<size_t>(work)] += std::chrono::duration<double>(now - since).count();
    since = now;
  }
};
constinit thread_local Team team;

// Of a thread that has been in RunTogether.
thread_local std::unique_ptr<TeamThreads> team_threads;
// Of the calling thread in a loop that they share outside of RunTogether; -1: not in one.
constinit thread_local int loop_member = -1;

// Where one of so many parts of [0, count) begins; the one behind the last: count.
int64_t BeginOf(int64_t count, int part, int parts) { return count * part / parts; }

// A loop in so many parts. Throws what a part throws, one of them if several do.
void ParallelForInTeam(int64_t count, int parts, internal::PartBody call, const void* body) {
  std::vector<std::exception_ptr> thrown(static_cast<size_t>(parts));
  team_threads->Run(parts, [&](int member) {
    loop_member = member;
    try {
      call(body, BeginOf(count, member, parts), BeginOf(count, member + 1, parts));
    } catch (...) {
      thrown[static_cast<size_t>(member)] = std::current_exception();
    }
    loop_member = -1;
  });
  for (const std::exception_ptr& exception : thrown) {
    if (exception) std::rethrow_exception(exception);
  }
}

}  // namespace

int ThreadCount() { return team.members > 0 ? team.members : at::get_num_threads(); }

int ThreadIndex() {
  if (team.members > 0) return team.member;
  return loop_member >= 0 ? loop_member : at::get_thread_num();
}

int64_t PartBegin(int64_t count) { return BeginOf(count, team.member, team.members); }

void internal::ParallelFor(int64_t count, int64_t grain, Work work, PartBody call,
                           const void* body) {
  if (team.members > 0) {
    const int64_t begin = BeginOf(count, team.member, team.members);
    const int64_t end = BeginOf(count, team.member + 1, team.members);
    if (begin < end) call(body, begin, end);
    team.Spent(work);
    team.meeting->Await(team.members);
    team.Spent(Work::kWaiting);
    return;
  }
  if (count <= grain || loop_member >= 0) {
    if (count > 0) call(body, 0, count);
    return;
  }
  if (team_threads != nullptr) {
    const int64_t most = std::min(ThreadCount(), team_threads->count() + 1);
    const int64_t parts = std::min((count + grain - 1) / grain, most);
    ParallelForInTeam(count, static_cast<int>(parts), call, body);
    return;
  }
  char fork = 0;
  char join = 0;
  STRATA_TSAN_RELEASE(&fork);
  at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    STRATA_TSAN_ACQUIRE(&fork);
    call(body, begin, end);
    STRATA_TSAN_RELEASE(&join);
  });
  STRATA_TSAN_ACQUIRE(&join);
}

WorkSeconds internal::RunTogether(MemberBody call, const void* body) {
  if (team_threads == nullptr) team_threads = std::make_unique<TeamThreads>();
  team_threads->Grow(ThreadCount() - 1, HaveCores(ThreadCount()));
  const int members = std::min(ThreadCount(), team_threads->count() + 1);
  Meeting meeting;
  std::vector<WorkSeconds> by_member(static_cast<size_t>(members));
  team_threads->Run(members, [&](int member) {
    team = {.member = member, .members = members, .meeting = &meeting, .since = Clock::now()};
    call(body);
    by_member[static_cast<size_t>(member)] = team.seconds;
    team = {};
  });
  WorkSeconds sum = {};
  for (const WorkSeconds& seconds : by_member) {
    for (size_t kind = 0; kind < kWorkKinds; ++kind) sum[kind] += seconds[kind];
  }
  return sum;
}

}  // namespace strata::engine
