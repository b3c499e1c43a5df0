#ifndef STRATA_SERVICES_VERIFY_ENGINE_TEAM_THREADS_H_
#define STRATA_SERVICES_VERIFY_ENGINE_TEAM_THREADS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

namespace strata::engine {

// Threads that do short work together with the one that calls them, and sleep between. OpenMP's
// spin there, for as long as a step lasts, on the cores that gRPC, clients and a draft service wait
// for. (Two cores, a draft service on them, one stream: SmolLM2 waits 0.60 ms a step for drafts
// instead of 0.80.)
//
// One caller at a time.
class TeamThreads {
 public:
  TeamThreads();
  ~TeamThreads();
  TeamThreads(const TeamThreads&) = delete;
  TeamThreads& operator=(const TeamThreads&) = delete;

  // So many at least, but fewer where the system gives no more. Those with a core each `spin` a
  // little before they sleep.
  void Grow(int count, bool spin);
  int count() const { return static_cast<int>(helpers_.size()); }

  // Calls body(member) for members 0 (on the calling thread), 1, … members - 1, each on a thread of
  // its own, and returns when all have returned. members: 1 … count() + 1. The body must not throw.
  template <typename Body>
  void Run(int members, const Body& body) {
    RunAll(
        members, [](const void* self, int member) { (*static_cast<const Body*>(self))(member); },
        &body);
  }

 private:
  using Call = void (*)(const void* body, int member);
  struct Helper;

  void RunAll(int members, Call call, const void* body);
  void Serve(Helper& helper, int member);

  // Before one sleeps.
  std::atomic<int> spins_ = 0;
  std::vector<std::unique_ptr<Helper>> helpers_;
  // Of the work under way; a null call ends the threads.
  Call call_ = nullptr;
  const void* body_ = nullptr;
  // Helpers that have not returned.
  alignas(64) std::atomic<uint32_t> left_ = 0;
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_TEAM_THREADS_H_
