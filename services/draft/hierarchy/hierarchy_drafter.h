#ifndef STRATA_SERVICES_DRAFT_HIERARCHY_HIERARCHY_DRAFTER_H_
#define STRATA_SERVICES_DRAFT_HIERARCHY_HIERARCHY_DRAFTER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/draft/hierarchy/drafter.h"
#include "services/draft/hierarchy/tree_drafter.h"
#include "services/draft/tiers/model_store.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

// All must be at least 1 except idle_before_eviction.
struct DrafterLimits {
  size_t max_sessions = 1024;
  size_t max_batch = 1024;
  // Live sequences of all sessions, and the tokens they hold together (predicted ones included).
  // A token takes up to about 300 bytes.
  size_t max_sequences = 4096;
  size_t max_live_tokens = size_t{8} << 20;
  // Tokens of one sequence; of one predicted text.
  size_t max_sequence_tokens = 131072;
  size_t max_predicted_tokens = 131072;
  // A larger node_budget or max_depth in a request is not an error: the tree is just smaller.
  uint32_t max_nodes = 256;
  // At a limit, a sequence that was not touched for this long gives way; its verifier
  // then gets UNKNOWN and may send it again.
  absl::Duration idle_before_eviction = absl::Seconds(60);
};

// Of the corpus snapshot that is live.
struct CorpusInfo {
  std::string snapshot;
  uint64_t tokens = 0;
};

struct DrafterOptions {
  // The corpus, thread-safe; null: none.
  std::shared_ptr<const Tier> corpus;
  // Asked for Stats(), from any thread; null: there is nothing to tell.
  std::function<CorpusInfo()> corpus_info;
  // Tokenizer that sessions must have, usually the corpus's. Required with a corpus; empty without
  // one allows any.
  std::string tokenizer_fingerprint;
  // Null: no model tier. Shared, because whoever made it saves it.
  std::shared_ptr<ModelStore> model_store;
  PolicyOptions policy;
  // Off: nothing is drafted from the sequence itself (for measurements).
  bool use_context = true;
  DrafterLimits limits;
};

// INVALID_ARGUMENT names the option that is out of range.
absl::StatusOr<std::unique_ptr<Drafter>> NewDrafter(DrafterOptions options);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_HIERARCHY_HIERARCHY_DRAFTER_H_
