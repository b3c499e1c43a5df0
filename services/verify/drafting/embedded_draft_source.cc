#include "services/verify/drafting/embedded_draft_source.h"

#include <cstddef>
#include <exception>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "common/base/steady_clock.h"
#include "spdlog/spdlog.h"

namespace strata::verify {
namespace {

class EmbeddedDraftSource final : public DraftSource {
 public:
  EmbeddedDraftSource(std::shared_ptr<draft::Drafter> drafter, uint64_t session, int64_t vocab_size,
                      absl::Duration deadline)
      : drafter_(std::move(drafter)),
        session_(session),
        vocab_size_(vocab_size),
        deadline_(deadline),
        worker_([this] { Run(); }) {}
  ~EmbeddedDraftSource() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
    }
    worker_.join();
    drafter_->CloseSession(session_);
  }

  const char* mode() const override { return "embedded"; }
  bool available() const override { return true; }

  void Ask(std::span<const DraftQuery> queries) override {
    absl::MutexLock lock(&mutex_);
    queries_.assign(queries.begin(), queries.end());
    deadline_of_queries_ = SteadyNow() + deadline_;
    state_ = State::kAsked;
  }

  void Take(std::vector<DraftReply>& replies) override {
    std::vector<DraftQuery> queries;
    absl::Time deadline;
    {
      absl::MutexLock lock(&mutex_);
      // What ended before has to be learned from first, or might never be.
      const bool takes_over =
          state_ == State::kAsked && worker_waits_ && ended_.empty() && !unlearned_;
      if (!takes_over) {
        const auto drafted = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
          return state_ == State::kIdle;
        };
        // The drafter keeps the deadline.
        mutex_.Await(absl::Condition(&drafted));
        replies.swap(replies_);
        replies_.clear();
        return;
      }
      // To wake the worker, and to be woken by it, can take as long as to draft.
      deadline = TakeQueries(queries);
    }
    replies = DraftAll(queries, deadline);
    absl::MutexLock lock(&mutex_);
    state_ = State::kIdle;
    unlearned_ = true;
  }

  void Close(uint64_t sequence_id, std::span<const TokenId> tokens) override {
    absl::MutexLock lock(&mutex_);
    ended_.push_back({sequence_id, {tokens.begin(), tokens.end()}});
  }

 private:
  struct Ended {
    uint64_t sequence_id;
    std::vector<TokenId> tokens;
  };
  // kAsked: nobody drafts yet.
  enum class State { kIdle, kAsked, kDrafting };
  struct Known {
    uint32_t epoch = 1;
    // Tokens that the drafter holds; 0: it must be sent the sequence whole.
    size_t known = 0;
    // Whether the last reply's tree is one that the drafter remembers.
    bool offered = false;
  };

  // Returns their deadline.
  absl::Time TakeQueries(std::vector<DraftQuery>& queries) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    queries.swap(queries_);
    queries_.clear();
    state_ = State::kDrafting;
    return deadline_of_queries_;
  }

  // The worker: first what somebody waits for, then what can wait.
  void Run() ABSL_LOCKS_EXCLUDED(mutex_) {
    while (true) {
      std::vector<DraftQuery> queries;
      std::vector<Ended> ended;
      absl::Time deadline;
      bool asked = false;
      {
        absl::MutexLock lock(&mutex_);
        const auto work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
          return state_ == State::kAsked || !ended_.empty() || unlearned_ || stopping_;
        };
        worker_waits_ = true;
        mutex_.Await(absl::Condition(&work));
        worker_waits_ = false;
        asked = state_ == State::kAsked;
        if (!asked && ended_.empty() && !unlearned_) return;
        if (asked) deadline = TakeQueries(queries);
        ended.swap(ended_);
        unlearned_ = false;
      }
      // An Ask that came meanwhile, while nothing was asked, is for the next round.
      if (asked) {
        std::vector<DraftReply> replies = DraftAll(queries, deadline);
        absl::MutexLock lock(&mutex_);
        replies_.swap(replies);
        state_ = State::kIdle;
      }
      absl::MutexLock lock(&drafting_);
      try {
        for (const Ended& sequence : ended) Forget(sequence.sequence_id, sequence.tokens);
        // Last, so that nothing is left for the next drafts to wait for.
        drafter_->Learn(session_);
      } catch (const std::exception& error) {
        spdlog::error("learning from verified drafts failed: {}", error.what());
      }
    }
  }

  // Whatever happens; no draft is worth a request.
  std::vector<DraftReply> DraftAll(std::span<const DraftQuery> queries,
                                   absl::Time deadline) noexcept ABSL_LOCKS_EXCLUDED(drafting_) {
    absl::MutexLock lock(&drafting_);
    std::vector<DraftReply> replies;
    try {
      replies.resize(queries.size());
      std::vector<size_t> asked(queries.size());
      std::iota(asked.begin(), asked.end(), size_t{0});
      // The second round sends again, whole, what the drafter had forgotten.
      for (int round = 0; round < 2 && !asked.empty(); ++round) {
        asked = AskDrafter(queries, asked, deadline, replies);
      }
    } catch (const std::exception& error) {
      spdlog::error("drafting failed: {}", error.what());
      for (DraftReply& reply : replies) {
        reply.tree.Clear();
        reply.missed = true;
      }
    }
    return replies;
  }

  void Forget(uint64_t sequence_id, std::span<const TokenId> tokens)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(drafting_) {
    const auto it = sequences_.find(sequence_id);
    if (it == sequences_.end()) return;
    draft::SequenceUpdate update;
    update.sequence_id = sequence_id;
    update.epoch = it->second.epoch;
    if (it->second.known <= tokens.size() && it->second.known > 0) {
      update.position = static_cast<uint32_t>(it->second.known);
      update.tokens = tokens.subspan(it->second.known);
      update.close = true;
      std::vector<draft::SequenceAnswer> answers;
      drafter_->Draft(session_, {&update, 1}, SteadyNow() + deadline_, answers);
    }
    sequences_.erase(it);
  }

  // Asks for queries[i] for i in `indices`; returns those the drafter does not know.
  std::vector<size_t> AskDrafter(std::span<const DraftQuery> queries,
                                 const std::vector<size_t>& indices, absl::Time deadline,
                                 std::vector<DraftReply>& replies)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(drafting_) {
    std::vector<draft::SequenceUpdate> updates;
    updates.reserve(indices.size());
    for (const size_t i : indices) {
      const DraftQuery& query = queries[i];
      Known& known = sequences_[query.sequence_id];
      if (known.known > query.tokens.size()) {  // rewound
        ++known.epoch;
        known.known = 0;
      }
      draft::SequenceUpdate& update = updates.emplace_back();
      update.sequence_id = query.sequence_id;
      update.epoch = known.epoch;
      update.position = static_cast<uint32_t>(known.known);
      update.tokens = query.tokens.subspan(known.known);
      update.node_budget = query.node_budget;
      update.policy = query.policy;
      update.rankings = query.rankings;
      if (known.known == 0) {
        update.prompt_length = query.prompt_length;
        update.predicted_tokens = query.predicted_tokens;
        update.tenant = query.tenant;
      } else if (query.has_feedback && known.offered) {
        update.has_feedback = true;
        update.accepted_nodes = query.accepted_nodes;
      }
    }
    std::vector<draft::SequenceAnswer> answers;
    drafter_->Draft(session_, updates, deadline, answers);

    std::vector<size_t> unknown;
    for (size_t k = 0; k < indices.size() && k < answers.size(); ++k) {
      const DraftQuery& query = queries[indices[k]];
      Known& known = sequences_[query.sequence_id];
      known.offered = answers[k].status == draft::SequenceStatus::kOk;
      if (!known.offered) {
        known.known = 0;
        if (answers[k].status == draft::SequenceStatus::kUnknown) unknown.push_back(indices[k]);
        continue;
      }
      known.known = query.tokens.size();
      if (ValidateDraftTree(answers[k].tree, vocab_size_, static_cast<int>(query.node_budget))
              .ok()) {
        replies[indices[k]].tree = std::move(answers[k].tree);
      }
    }
    return unknown;
  }

  const std::shared_ptr<draft::Drafter> drafter_;
  const uint64_t session_;
  const int64_t vocab_size_;
  const absl::Duration deadline_;

  // Held by whoever calls the drafter: the worker, or Take while the worker waits.
  absl::Mutex drafting_;
  absl::flat_hash_map<uint64_t, Known> sequences_ ABSL_GUARDED_BY(drafting_);

  absl::Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kIdle;
  // Whether Take made drafts that the worker has not let the drafter learn from.
  bool unlearned_ ABSL_GUARDED_BY(mutex_) = false;
  // For work, or, with some there, for this mutex.
  bool worker_waits_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<DraftQuery> queries_ ABSL_GUARDED_BY(mutex_);
  absl::Time deadline_of_queries_ ABSL_GUARDED_BY(mutex_);
  std::vector<DraftReply> replies_ ABSL_GUARDED_BY(mutex_);
  std::vector<Ended> ended_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // Last: starts when all else is there.
  std::thread worker_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DraftSource>> NewEmbeddedDraftSource(
    std::shared_ptr<draft::Drafter> drafter, const DraftIdentity& identity,
    absl::Duration deadline) {
  uint64_t session = 0;
  if (absl::Status status =
          drafter->OpenSession(identity.verifier_id, identity.model_id,
                               identity.tokenizer_fingerprint, identity.vocab_size, &session);
      !status.ok()) {
    return status;
  }
  return std::unique_ptr<DraftSource>(std::make_unique<EmbeddedDraftSource>(
      std::move(drafter), session, identity.vocab_size, deadline));
}

}  // namespace strata::verify
