#include "services/verify/drafting/embedded_draft_source.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/base/steady_clock.h"

namespace strata::verify {
namespace {

class EmbeddedDraftSource final : public DraftSource {
 public:
  EmbeddedDraftSource(std::shared_ptr<draft::Drafter> drafter, uint64_t session, int64_t vocab_size,
                      absl::Duration deadline)
      : drafter_(std::move(drafter)),
        session_(session),
        vocab_size_(vocab_size),
        deadline_(deadline) {}
  ~EmbeddedDraftSource() override { drafter_->CloseSession(session_); }

  const char* mode() const override { return "embedded"; }
  bool available() const override { return true; }

  void Draft(std::span<const DraftQuery> queries, std::vector<DraftReply>& replies) override {
    replies.assign(queries.size(), DraftReply());
    const absl::Time deadline = SteadyNow() + deadline_;
    std::vector<size_t> asked(queries.size());
    for (size_t i = 0; i < asked.size(); ++i) asked[i] = i;
    // The second round sends again, whole, what the drafter had forgotten.
    for (int round = 0; round < 2 && !asked.empty(); ++round) {
      asked = Ask(queries, asked, deadline, replies);
    }
  }

  void Close(uint64_t sequence_id, std::span<const TokenId> tokens) override {
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

 private:
  struct Known {
    uint32_t epoch = 1;
    // Tokens that the drafter holds; 0: it must be sent the sequence whole.
    size_t known = 0;
    // Whether the last reply's tree is one that the drafter remembers.
    bool offered = false;
  };

  // Asks for queries[i] for i in `indices`; returns those the drafter does not know.
  std::vector<size_t> Ask(std::span<const DraftQuery> queries, const std::vector<size_t>& indices,
                          absl::Time deadline, std::vector<DraftReply>& replies) {
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
      if (known.known > 0) update.rankings = query.rankings;
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
  absl::flat_hash_map<uint64_t, Known> sequences_;
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
