#ifndef STRATA_SERVICES_DRAFT_TIERS_PERIODIC_SAVER_H_
#define STRATA_SERVICES_DRAFT_TIERS_PERIODIC_SAVER_H_

#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/steady_condition.h"
#include "services/draft/tiers/model_store.h"

namespace strata::draft {

// Saves a model store every `interval` on a thread of its own, and once more when destroyed.
// Errors are logged; the next save tries again.
class PeriodicSaver {
 public:
  // `store` is borrowed. `before` runs before every save, on the saver's thread.
  PeriodicSaver(
      ModelStore* store, absl::Duration interval, std::function<void()> before = [] {});
  ~PeriodicSaver();
  PeriodicSaver(const PeriodicSaver&) = delete;
  PeriodicSaver& operator=(const PeriodicSaver&) = delete;

 private:
  void Run();

  ModelStore* const store_;
  const absl::Duration interval_;
  const std::function<void()> before_;
  absl::Mutex mutex_;
  SteadyCondition stopped_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_PERIODIC_SAVER_H_
