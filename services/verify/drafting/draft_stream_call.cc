#include "services/verify/drafting/draft_stream_call.h"

#include <utility>

#include "common/base/steady_clock.h"

namespace strata::verify {

DraftStreams::DraftStreams(v1::DraftService::Stub& stub)
    : stub_(stub), live_(std::make_shared<Live>()) {}

DraftStreams::~DraftStreams() {
  absl::MutexLock lock(&live_->mutex);
  const auto none = [this]()
                        ABSL_EXCLUSIVE_LOCKS_REQUIRED(live_->mutex) { return live_->streams == 0; };
  live_->mutex.Await(absl::Condition(&none));
}

bool DraftStreams::idle() const {
  absl::MutexLock lock(&live_->mutex);
  return live_->streams == 0;
}

std::shared_ptr<DraftStreamCall> DraftStreams::Start() {
  {
    absl::MutexLock lock(&live_->mutex);
    ++live_->streams;
  }
  std::shared_ptr<DraftStreamCall> call(new DraftStreamCall(),
                                        [live = live_](DraftStreamCall* gone) {
                                          delete gone;
                                          absl::MutexLock lock(&live->mutex);
                                          --live->streams;
                                        });
  {
    absl::MutexLock lock(&call->mutex_);
    call->self_ = call;
  }
  stub_.async()->DraftStream(&call->context_, call.get());
  // Writes start outside of reactions; the hold keeps OnDone away from them until
  // the last read has failed.
  call->AddHold();
  call->StartRead(&call->incoming_);
  call->StartCall();
  return call;
}

bool DraftStreamCall::TrySend(v1::DraftRequest& request, absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !writing_ || ended_; };
  changed_.WaitUntil(mutex_, deadline, ready);
  if (ended_ || writing_) return false;
  awaited_step_ = request.step();
  answered_ = has_ahead_ = false;
  outgoing_.Swap(&request);
  writing_ = true;
  StartWrite(&outgoing_);
  return true;
}

bool DraftStreamCall::Await(absl::Time deadline, v1::DraftResponse& response, absl::Time* arrival) {
  absl::MutexLock lock(&mutex_);
  const auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return answered_ || ended_; };
  changed_.WaitUntil(mutex_, deadline, ready);
  if (!answered_) return false;
  answered_ = false;
  response.Swap(&answer_);
  if (arrival != nullptr) *arrival = arrival_;
  return true;
}

bool DraftStreamCall::TakeAhead(v1::DraftResponse& response) {
  absl::MutexLock lock(&mutex_);
  if (!has_ahead_) return false;
  has_ahead_ = false;
  response.Swap(&ahead_);
  return true;
}

bool DraftStreamCall::ended() const {
  absl::MutexLock lock(&mutex_);
  return ended_;
}

grpc::Status DraftStreamCall::status(absl::Time deadline) const {
  absl::MutexLock lock(&mutex_);
  const auto done = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return done_; };
  changed_.WaitUntil(mutex_, deadline, done);
  return done_ ? status_ : grpc::Status(grpc::UNKNOWN, "the stream is still closing");
}

void DraftStreamCall::OnReadDone(bool ok) {
  {
    absl::MutexLock lock(&mutex_);
    if (ok) {
      if (incoming_.step() != awaited_step_) {
        // Late.
      } else if (incoming_.ahead()) {
        ahead_.Swap(&incoming_);
        has_ahead_ = true;
      } else {
        answer_.Swap(&incoming_);
        answered_ = true;
        arrival_ = SteadyNow();
      }
    } else {
      ended_ = true;
    }
    changed_.NotifyAll();
  }
  if (ok) {
    StartRead(&incoming_);
  } else {
    RemoveHold();
  }
}

void DraftStreamCall::OnWriteDone(bool /*ok*/) {
  // A failed write ends the stream, which the read reports.
  absl::MutexLock lock(&mutex_);
  writing_ = false;
  changed_.NotifyAll();
}

void DraftStreamCall::OnDone(const grpc::Status& status) {
  std::shared_ptr<DraftStreamCall> self;
  absl::MutexLock lock(&mutex_);
  status_ = status;
  ended_ = done_ = true;
  changed_.NotifyAll();
  self.swap(self_);
  // `lock` goes before `self`, which may be the last reference.
}

}  // namespace strata::verify
