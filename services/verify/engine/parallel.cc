#include "services/verify/engine/parallel.h"

#include <ATen/Parallel.h>
#include <omp.h>

#include <atomic>
#include <cstdint>

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

// Where the members of a team meet. (OpenMP's own barrier makes a system call each time, whether
// anybody sleeps or not: 270 in a pass of SmolLM2.)
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
    for (int i = 0; i < spins_; ++i) {
      if (round_.load(std::memory_order_acquire) != round) return;
      Pause();
    }
    while (round_.load(std::memory_order_acquire) == round) round_.wait(round);
  }

 private:
  // Under a millisecond: the others take no longer, unless another process holds a core.
  static constexpr int kSpins = 10'000;

  static void Pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  // Where members share cores, who waits keeps others from coming.
  const int spins_ = ThreadCount() <= omp_get_num_procs() ? kSpins : 0;
  // Each on a line of its own.
  alignas(64) std::atomic<int> arrived_ = 0;
  alignas(64) std::atomic<uint32_t> round_ = 0;
};

// Of the calling thread within RunTogether; 0 members: not within it.
struct Team {
  int member = 0;
  int members = 0;
  Meeting* meeting = nullptr;
};
thread_local Team team;

// Where a member's part of [0, count) begins; of the one behind the last: count.
int64_t BeginOf(int64_t count, int member) { return count * member / team.members; }

}  // namespace

int ThreadCount() { return team.members > 0 ? team.members : at::get_num_threads(); }

int ThreadIndex() { return team.members > 0 ? team.member : at::get_thread_num(); }

int64_t PartBegin(int64_t count) { return BeginOf(count, team.member); }

void internal::ParallelFor(int64_t count, int64_t grain, PartBody call, const void* body) {
  if (team.members > 0) {
    const int64_t begin = BeginOf(count, team.member);
    const int64_t end = BeginOf(count, team.member + 1);
    if (begin < end) call(body, begin, end);
    team.meeting->Await(team.members);
    return;
  }
  if (count <= grain) {
    if (count > 0) call(body, 0, count);
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

void internal::RunTogether(MemberBody call, const void* body) {
  char fork = 0;
  char join = 0;
  STRATA_TSAN_RELEASE(&fork);
  Meeting meeting;
#pragma omp parallel num_threads(ThreadCount())
  {
    STRATA_TSAN_ACQUIRE(&fork);
    team = {omp_get_thread_num(), omp_get_num_threads(), &meeting};
    call(body);
    team = {};
    STRATA_TSAN_RELEASE(&join);
  }
  STRATA_TSAN_ACQUIRE(&join);
}

}  // namespace strata::engine
