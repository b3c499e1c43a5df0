#ifndef STRATA_SERVICES_VERIFY_DRAFTING_DRAFT_SOURCE_H_
#define STRATA_SERVICES_VERIFY_DRAFTING_DRAFT_SOURCE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/draft_tree.h"
#include "common/base/row_ranking.h"
#include "common/metrics/histogram.h"
#include "common/trace/context.h"
#include "services/draft/hierarchy/drafter.h"

namespace strata::verify {

// What the scheduler tells a draft source about one live sequence. The spans are
// borrowed until the answer is taken; the source keeps what it needs.
struct DraftQuery {
  uint64_t sequence_id = 0;
  // The whole sequence: prompt, then output so far.
  std::span<const TokenId> tokens;
  uint32_t prompt_length = 0;
  uint32_t node_budget = 0;
  // The verdict on the tree returned last for this sequence (indices in it).
  bool has_feedback = false;
  std::span<const int32_t> accepted_nodes;
  std::span<const TokenId> predicted_tokens;
  // The model's rankings of the rows that the last step computed, if they are to be recycled.
  std::span<const RowRanking> rankings;
  std::string tenant;
  draft::Policy policy = draft::Policy::kDefault;
  // The span that waits for this draft, if the request is traced.
  std::optional<trace::Context> trace;
};

struct DraftReply {
  DraftTree tree;
  // True if no answer came in time (the tree is then empty or from the fallback).
  bool missed = false;
  // True if it was drafted while an earlier step ran (never with `missed`): nobody waited.
  bool ahead = false;
};

// How a draft service that is reached over the network has served so far.
struct RemoteDraftStats {
  // Messages that asked for drafts, and those of them that were answered in time.
  uint64_t messages = 0;
  uint64_t answers = 0;
  // Steps that waited for drafts until the deadline, in vain.
  uint64_t deadline_misses = 0;
  // Streams opened, and those that ended by themselves.
  uint64_t streams = 0;
  uint64_t streams_broken = 0;
  // Sequences that the service had forgotten, sent once more.
  uint64_t forgotten = 0;
  // Drafts asked for, of all sequences, and those of them that had been drafted ahead.
  uint64_t drafts = 0;
  uint64_t drafts_ahead = 0;
  bool breaker_open = false;
  // Seconds from sending to the answer.
  metrics::HistogramSnapshot round_trip;
};

// Where drafts come from. A step asks as soon as it knows its tokens and takes the answer when the
// next one begins, so that both sides have other things to do meanwhile. Never fails: whatever
// happens, a query is answered with a valid tree (by ValidateDraftTree) or an empty one, soon after
// the deadline at the latest. Called from the scheduler's thread alone, except available() and
// remote_stats().
class DraftSource {
 public:
  virtual ~DraftSource() = default;
  // "embedded", "remote" or "off".
  virtual const char* mode() const = 0;
  // Whether full drafts (not the fallback's) are to be expected now. Thread-safe.
  virtual bool available() const = 0;
  // Of a source that asks a service; nothing of others. Thread-safe.
  virtual std::optional<RemoteDraftStats> remote_stats() const { return std::nullopt; }
  // Begins to draft. The deadline counts from here. Take is next, but for Close of other sequences.
  virtual void Ask(std::span<const DraftQuery> queries) = 0;
  // replies[i] answers queries[i] of the last Ask. Waits for them until the deadline.
  virtual void Take(std::vector<DraftReply>& replies) = 0;
  // The sequence ended; `tokens` is all of it. Forgets it, teaches the model tier.
  virtual void Close(uint64_t sequence_id, std::span<const TokenId> tokens) = 0;
};

// Drafts nothing.
std::unique_ptr<DraftSource> NewNoDraftSource();

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_DRAFTING_DRAFT_SOURCE_H_
