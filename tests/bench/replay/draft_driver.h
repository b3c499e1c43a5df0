#ifndef STRATA_TESTS_BENCH_REPLAY_DRAFT_DRIVER_H_
#define STRATA_TESTS_BENCH_REPLAY_DRAFT_DRIVER_H_

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/draft/hierarchy/drafter.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "services/draft/tiers/model_store.h"

namespace strata::replay {

// What one message took.
struct DraftTime {
  // Seen by the caller.
  double total_us = 0;
  // What was learned from it afterwards, of a drafter in this process.
  std::optional<double> learn_us;
  // What a remote service says of it.
  std::optional<double> service_us;
};

// One verifier's line to a drafter, in this process or in another. Thread-compatible.
class DraftDriver {
 public:
  virtual ~DraftDriver() = default;
  // One message for a whole batch of at most 1,024 sequences; see Drafter::Draft. answers[i] is for
  // updates[i] and has a valid tree. An error, also an answer other than kOk, ends the replay.
  virtual absl::Status Draft(std::span<const draft::SequenceUpdate> updates,
                             std::vector<draft::SequenceAnswer>& answers, DraftTime& time) = 0;
  // After the last message; saves what is to be saved.
  virtual absl::Status Finish() = 0;
};

// Who the replay says it is.
struct ReplayIdentity {
  std::string model_id;
  std::string tokenizer_fingerprint;
  int64_t vocab_size = 0;
};

// Drafts in this process. options.model_store, if any, is saved by Finish.
absl::StatusOr<std::unique_ptr<DraftDriver>> NewLocalDriver(draft::DrafterOptions options,
                                                            const ReplayIdentity& identity);

// Drafts over one DraftStream, without TLS, to the service at `address` (HOST:PORT). UNAVAILABLE if
// none answers; FAILED_PRECONDITION if `snapshot` is not empty and the service's corpus is another.
absl::StatusOr<std::unique_ptr<DraftDriver>> NewRemoteDriver(const std::string& address,
                                                             const std::string& snapshot,
                                                             const ReplayIdentity& identity);

// INTERNAL, with a sentence, if `answer` is no successful one to `update`.
absl::Status CheckAnswer(const draft::SequenceUpdate& update, const draft::SequenceAnswer& answer,
                         int64_t vocab_size);

}  // namespace strata::replay

#endif  // STRATA_TESTS_BENCH_REPLAY_DRAFT_DRIVER_H_
