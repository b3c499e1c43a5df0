#include <chrono>
#include <utility>

#include "absl/time/time.h"
#include "tests/bench/replay/draft_driver.h"

namespace strata::replay {
namespace {

class LocalDriver final : public DraftDriver {
 public:
  LocalDriver(std::shared_ptr<draft::ModelStore> store, std::unique_ptr<draft::Drafter> drafter,
              uint64_t session, int64_t vocab_size)
      : store_(std::move(store)),
        drafter_(std::move(drafter)),
        session_(session),
        vocab_size_(vocab_size) {}

  absl::Status Draft(std::span<const draft::SequenceUpdate> updates,
                     std::vector<draft::SequenceAnswer>& answers, DraftTime& time) override {
    using Microseconds = std::chrono::duration<double, std::micro>;
    const auto start = std::chrono::steady_clock::now();
    drafter_->Draft(session_, updates, absl::InfiniteFuture(), answers);
    const auto answered = std::chrono::steady_clock::now();
    drafter_->Learn(session_);
    time.total_us = Microseconds(answered - start).count();
    time.learn_us = Microseconds(std::chrono::steady_clock::now() - answered).count();
    for (size_t i = 0; i < updates.size(); ++i) {
      absl::Status status = CheckAnswer(updates[i], answers[i], vocab_size_);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status Finish() override {
    drafter_->CloseSession(session_);
    // Gone before the save: it hands the store what was learned last.
    drafter_.reset();
    return store_ == nullptr ? absl::OkStatus() : store_->Save();
  }

 private:
  const std::shared_ptr<draft::ModelStore> store_;
  std::unique_ptr<draft::Drafter> drafter_;
  const uint64_t session_;
  const int64_t vocab_size_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DraftDriver>> NewLocalDriver(draft::DrafterOptions options,
                                                            const ReplayIdentity& identity) {
  std::shared_ptr<draft::ModelStore> store = options.model_store;
  auto drafter = draft::NewDrafter(std::move(options));
  if (!drafter.ok()) return drafter.status();
  uint64_t session = 0;
  absl::Status status =
      (*drafter)->OpenSession("strata-replay", identity.model_id, identity.tokenizer_fingerprint,
                              identity.vocab_size, &session);
  if (!status.ok()) return status;
  return std::make_unique<LocalDriver>(std::move(store), *std::move(drafter), session,
                                       identity.vocab_size);
}

}  // namespace strata::replay
