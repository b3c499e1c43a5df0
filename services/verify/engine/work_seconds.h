#ifndef STRATA_SERVICES_VERIFY_ENGINE_WORK_SECONDS_H_
#define STRATA_SERVICES_VERIFY_ENGINE_WORK_SECONDS_H_

#include <array>
#include <atomic>
#include <cstddef>

namespace strata::engine {

// What threads that compute a pass together spend their time on.
enum class Work {
  // Matrix products of linear layers; where threads share a pass, silu(gate) * up with them.
  kProducts,
  kAttention,
  // Norms, rotation, embeddings, logits.
  kOther,
  // For each other: with nothing else on the machine 2 to 12 % of all time; most of it where
  // another process takes a core.
  kWaiting,
};
inline constexpr size_t kWorkKinds = 4;
// Where they are reported, by kind.
inline constexpr std::array<const char*, kWorkKinds> kWorkNames = {"products", "attention", "other",
                                                                   "waiting"};

// By kind of work, summed over threads.
using WorkSeconds = std::array<double, kWorkKinds>;

// A sum of them. Thread-safe.
class WorkCounter {
 public:
  void Add(const WorkSeconds& seconds) {
    for (size_t kind = 0; kind < kWorkKinds; ++kind) {
      sums_[kind].fetch_add(seconds[kind], std::memory_order_relaxed);
    }
  }
  WorkSeconds sums() const {
    WorkSeconds seconds;
    for (size_t kind = 0; kind < kWorkKinds; ++kind) {
      seconds[kind] = sums_[kind].load(std::memory_order_relaxed);
    }
    return seconds;
  }

 private:
  std::array<std::atomic<double>, kWorkKinds> sums_ = {};
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_WORK_SECONDS_H_
