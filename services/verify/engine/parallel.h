#ifndef STRATA_SERVICES_VERIFY_ENGINE_PARALLEL_H_
#define STRATA_SERVICES_VERIFY_ENGINE_PARALLEL_H_

#include <cstdint>

#include "services/verify/engine/work_seconds.h"

namespace strata::engine {

// Most threads that share the work of a ParallelFor or RunTogether called here: as many as LibTorch
// has intra-op threads.
int ThreadCount();
// Of the calling one, in a body of either: below what ThreadCount() was outside.
int ThreadIndex();

// Within RunTogether: where the calling thread's part of a ParallelFor over [0, count) begins.
int64_t PartBegin(int64_t count);

namespace internal {
using PartBody = void (*)(const void* body, int64_t begin, int64_t end);
void ParallelFor(int64_t count, int64_t grain, Work work, PartBody call, const void* body);
using MemberBody = void (*)(const void* body);
WorkSeconds RunTogether(MemberBody call, const void* body);
}  // namespace internal

// Calls body(begin, end) on parts of [0, count) of at least `grain`, on the threads of RunTogether
// where the calling thread has been in that, else on LibTorch's intra-op threads (which spin when
// they are done, so that one may not use both in turns); on the calling thread alone if there is
// one part or it is in such a body. Throws what a body throws. Starting threads costs microseconds
// on idle cores and milliseconds on busy ones, so grain should be generous.
//
// Within RunTogether: calls it for the calling thread's part, whatever the grain, and returns when
// all threads have done theirs. There the body must not throw, and `work` is what its time counts
// as.
template <typename Body>
void ParallelFor(int64_t count, int64_t grain, Work work, const Body& body) {
  internal::ParallelFor(
      count, grain, work,
      [](const void* self, int64_t begin, int64_t end) {
        (*static_cast<const Body*>(self))(begin, end);
      },
      &body);
}
template <typename Body>
void ParallelFor(int64_t count, int64_t grain, const Body& body) {
  ParallelFor(count, grain, Work::kOther, body);
}

// Calls body() on the calling thread and its TeamThreads at once, ThreadCount() of them or what
// the system gives, so that a chain of short loops starts threads once. All must
// come to the same calls of ParallelFor in the same order; nothing outside of those may write what
// the threads share. The body must not throw: the others would wait for ever. Returns where the
// threads' time went, from each one's start to the end of its last ParallelFor.
template <typename Body>
WorkSeconds RunTogether(const Body& body) {
  return internal::RunTogether([](const void* self) { (*static_cast<const Body*>(self))(); },
                               &body);
}

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_PARALLEL_H_
