#include "services/draft/tiers/periodic_saver.h"

#include <spdlog/spdlog.h>

#include <string>

namespace strata::draft {

PeriodicSaver::PeriodicSaver(ModelStore* store, absl::Duration interval,
                             std::function<void()> before)
    : store_(store), interval_(interval), before_(std::move(before)), thread_([this] { Run(); }) {}

PeriodicSaver::~PeriodicSaver() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
    stopped_.NotifyAll();
  }
  thread_.join();
}

void PeriodicSaver::Run() {
  for (bool stop = false; !stop;) {
    {
      absl::MutexLock lock(&mutex_);
      stop = stopped_.WaitFor(mutex_, interval_,
                              [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stop_; });
    }
    before_();
    if (absl::Status status = store_->Save(); !status.ok()) {
      spdlog::error("the model tiers are not saved in full: {}", std::string(status.message()));
    }
  }
}

}  // namespace strata::draft
