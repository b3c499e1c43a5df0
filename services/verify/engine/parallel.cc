#include "services/verify/engine/parallel.h"

#include <ATen/Parallel.h>
#include <omp.h>

#if !defined(_OPENMP)
#error "compile this file for OpenMP: at::parallel_for is a plain loop without"
#endif

#if defined(__SANITIZE_THREAD__)
// libgomp is not instrumented: its barriers are told to the sanitizer here.
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

// Of the calling thread within RunTogether; 0 members: not within it.
struct Team {
  int member = 0;
  int members = 0;
};
thread_local Team team;

// Where a member's part of [0, count) begins; of the one behind the last: count.
int64_t BeginOf(int64_t count, int member) { return count * member / team.members; }

// Returns when all members have come here.
void AwaitTeam() {
  static char barrier = 0;
  STRATA_TSAN_RELEASE(&barrier);
#pragma omp barrier
  STRATA_TSAN_ACQUIRE(&barrier);
}

}  // namespace

int ThreadCount() { return team.members > 0 ? team.members : at::get_num_threads(); }

int ThreadIndex() { return team.members > 0 ? team.member : at::get_thread_num(); }

int64_t PartBegin(int64_t count) { return BeginOf(count, team.member); }

void internal::ParallelFor(int64_t count, int64_t grain, PartBody call, const void* body) {
  if (team.members > 0) {
    const int64_t begin = BeginOf(count, team.member);
    const int64_t end = BeginOf(count, team.member + 1);
    if (begin < end) call(body, begin, end);
    AwaitTeam();
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
#pragma omp parallel num_threads(ThreadCount())
  {
    STRATA_TSAN_ACQUIRE(&fork);
    team = {omp_get_thread_num(), omp_get_num_threads()};
    call(body);
    team = {};
    STRATA_TSAN_RELEASE(&join);
  }
  STRATA_TSAN_ACQUIRE(&join);
}

}  // namespace strata::engine
