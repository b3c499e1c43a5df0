#ifndef STRATA_SERVICES_DRAFT_HIERARCHY_DRAFTER_H_
#define STRATA_SERVICES_DRAFT_HIERARCHY_DRAFTER_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/base/draft_tree.h"
#include "common/base/row_ranking.h"

namespace strata::draft {

enum class Policy : int32_t { kDefault = 0, kLocality = 1, kCalibrated = 2 };

// The in-process form of strata.v1.SequenceRequest; see proto/strata/v1/draft.proto
// for what each field means. Spans are borrowed for the call.
struct SequenceUpdate {
  uint64_t sequence_id = 0;
  uint32_t epoch = 0;
  uint32_t position = 0;
  std::span<const TokenId> tokens;
  uint32_t prompt_length = 0;
  uint32_t node_budget = 0;
  uint32_t max_depth = 0;
  bool has_feedback = false;
  std::span<const int32_t> accepted_nodes;
  std::span<const TokenId> predicted_tokens;
  bool close = false;
  std::string tenant;
  Policy policy = Policy::kDefault;
  std::span<const RowRanking> rankings;
  uint32_t ahead_nodes = 0;
};

enum class SequenceStatus : uint8_t { kOk = 1, kUnknown = 2, kInvalid = 3, kExhausted = 4 };
inline constexpr int kSequenceStatuses = 5;
// By SequenceStatus, as metrics and traces name them.
inline constexpr std::array<const char*, kSequenceStatuses> kSequenceStatusNames = {
    "none", "ok", "unknown", "invalid", "exhausted"};

struct SequenceAnswer {
  uint64_t sequence_id = 0;
  uint32_t epoch = 0;
  SequenceStatus status = SequenceStatus::kOk;
  std::string message;
  uint32_t position = 0;
  DraftTree tree;
};

struct DrafterStats {
  uint64_t live_sequences = 0;
  // Prompts, output and predicted text of those.
  uint64_t live_tokens = 0;
  uint64_t model_tier_bytes = 0;
  uint64_t corpus_tokens = 0;
  std::string snapshot;
  // By TierKind, over all sessions so far: nodes of the trees that feedback judged, and those of
  // them that verification accepted.
  std::array<uint64_t, kTierKinds> judged_nodes{};
  std::array<uint64_t, kTierKinds> accepted_nodes{};
  // By TierKind: nodes of all trees that Draft answered with.
  std::array<uint64_t, kTierKinds> drafted_nodes{};
  // By SequenceStatus: answers that Draft gave so far.
  std::array<uint64_t, kSequenceStatuses> answers{};
};

// One context to draft after, that is no sequence: strata.v1.DraftOnceRequest. Borrows its spans.
struct OnceRequest {
  std::string model_id;
  std::string tokenizer_fingerprint;
  int64_t vocab_size = 0;
  std::string tenant;
  std::span<const TokenId> context;
  std::span<const TokenId> predicted_tokens;
  uint32_t node_budget = 0;
  // 0: no bound of the request's own.
  uint32_t max_depth = 0;
  Policy policy = Policy::kDefault;
  // As for Drafter::Draft.
  absl::Time deadline = absl::InfiniteFuture();
};

// The hierarchy of tiers behind one call. Thread-safe: calls for different
// sequences may run at once; calls for one sequence must not overlap.
class Drafter {
 public:
  virtual ~Drafter() = default;
  // A session is the name space of sequence ids (one verifier). Model id and vocabulary are
  // its own. Returns a handle; FAILED_PRECONDITION if the fingerprint is not the corpus's,
  // INVALID_ARGUMENT for an empty or over-long field.
  virtual absl::Status OpenSession(const std::string& verifier_id, const std::string& model_id,
                                   const std::string& tokenizer_fingerprint, int64_t vocab_size,
                                   uint64_t* session) = 0;
  // Frees every sequence of the session; the output of each still goes to the model tier.
  virtual void CloseSession(uint64_t session) = 0;
  // Applies the updates and fills answers[i] for updates[i] (resized to match). Never fails
  // as a whole: each answer carries its own status. After `deadline` (of SteadyNow) no tier is
  // asked any more, and trees are left as they are, possibly empty: it is overrun by one batch of
  // the corpus (kMatchBatch) at most, and by what memory alone takes. What is to be learned from
  // the updates waits for Learn, so that nobody who waits for drafts waits for that.
  virtual void Draft(uint64_t session, std::span<const SequenceUpdate> updates, absl::Time deadline,
                     std::vector<SequenceAnswer>& answers) = 0;
  // Drafts ahead for those of a Draft's updates that have ahead_nodes and whose sequences stand
  // where they left them, with trees that Draft's own does not limit: answers are for those alone,
  // all of them kOk. Changes nothing, also not the last tree, which feedback judges.
  virtual void DraftAhead(uint64_t session, std::span<const SequenceUpdate> updates,
                          absl::Time deadline, std::vector<SequenceAnswer>& answers) = 0;
  // Learns what the session's updates so far teach, closes and evictions included; to be called
  // when the answers are passed on. What is left undone the session's next Draft, or its end, does
  // first. What a closed or evicted sequence holds counts as free at once, and is freed by this.
  virtual void Learn(uint64_t session) = 0;
  // Stateless: drafts without touching any tier's state. INVALID_ARGUMENT names what is wrong with
  // the request; RESOURCE_EXHAUSTED while live sequences leave its tokens no room.
  virtual absl::Status DraftOnce(const OnceRequest& request, DraftTree& tree) = 0;
  virtual DrafterStats Stats() const = 0;
  // Hands what was learned of how far drafts can be trusted to the model store, to be saved with
  // it.
  virtual void SaveCalibrations() = 0;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_HIERARCHY_DRAFTER_H_
