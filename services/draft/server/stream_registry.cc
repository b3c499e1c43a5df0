#include "services/draft/server/stream_registry.h"

namespace strata::draft {

StreamRegistry::Stream::Stream(StreamRegistry* registry, grpc::ServerContext* context)
    : registry_(registry), context_(context) {
  absl::MutexLock lock(&registry_->mutex_);
  registry_->streams_.emplace(context_, false);
  if (registry_->draining_) context_->TryCancel();
}

StreamRegistry::Stream::~Stream() {
  absl::MutexLock lock(&registry_->mutex_);
  registry_->streams_.erase(context_);
}

bool StreamRegistry::Stream::SetBusy(bool busy) {
  absl::MutexLock lock(&registry_->mutex_);
  registry_->streams_[context_] = busy;
  return !registry_->draining_;
}

void StreamRegistry::Drain() {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
  for (const auto& [context, busy] : streams_) {
    if (!busy) context->TryCancel();
  }
}

}  // namespace strata::draft
