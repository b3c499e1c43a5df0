#ifndef STRATA_SERVICES_VERIFY_ENGINE_OWN_THREAD_H_
#define STRATA_SERVICES_VERIFY_ENGINE_OWN_THREAD_H_

#include <exception>
#include <thread>

namespace strata::engine {

// Runs `work` on a thread of its own, waits for its end, and throws what it threw.
//
// A thread that ran a forward pass, or another ParallelFor, keeps its team of threads for as long
// as it lives, of OpenMP's where the pass has products of oneDNN's. As soon as all teams together
// have more threads than there are cores, libgomp's threads sleep at every barrier instead of
// spinning: a step of SmolLM2 on 2 cores then takes 13.9 ms instead of 7.2. So the passes before
// serving run on threads that end, and one thread alone serves.
template <typename Work>
void RunOnOwnThread(const Work& work) {
  std::exception_ptr thrown;
  std::thread thread([&] {
    try {
      work();
    } catch (...) {
      thrown = std::current_exception();
    }
  });
  thread.join();
  if (thrown) std::rethrow_exception(thrown);
}

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_OWN_THREAD_H_
