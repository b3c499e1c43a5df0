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
  }
  thread_.join();
}

void PeriodicSaver::Run() {
  for (bool stop = false; !stop;) {
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithTimeout(absl::Condition(&stop_), interval_);
      stop = stop_;
    }
    before_();
    if (absl::Status status = store_->Save(); !status.ok()) {
      spdlog::error("the model tiers are not saved in full: {}", std::string(status.message()));
    }
  }
}

}  // namespace strata::draft
