#ifndef STRATA_SERVICES_VERIFY_SCHEDULER_SCHEDULER_COUNTERS_H_
#define STRATA_SERVICES_VERIFY_SCHEDULER_SCHEDULER_COUNTERS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "common/base/draft_tree.h"
#include "common/metrics/counter.h"
#include "common/metrics/histogram.h"
#include "services/verify/scheduler/acceptance_curve.h"
#include "services/verify/scheduler/generation.h"

namespace strata::verify {

// What a scheduler has done so far, over all requests. Raised by its thread alone, read by any
// without holding it up. Sums over requests are those of their GenerationStats: a request has been
// counted in full when its sink is told that it finished.
struct SchedulerCounters {
  // Depths in a draft tree that are told apart; the last stands for itself and all below.
  static constexpr size_t kPositions = 32;

  // Rows whose price is told.
  static constexpr std::array<int64_t, 10> kCostRows = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512};

  // Drafted: verified in a pass. Accepted: part of an answer.
  struct Nodes {
    metrics::Counter drafted;
    metrics::Counter accepted;
  };
  // Of the nodes whose path a draft source gave a probability within one bin of AcceptanceCurve.
  // Unlike there, old ones count in full. Accepted by the model, be it behind a stop string.
  struct Confidence {
    metrics::Counter verified;
    metrics::Sum claimed;
    metrics::Counter accepted;
  };

  metrics::Counter steps;
  metrics::Counter request_steps;
  // Rows of forward passes: of prompts (and of what is computed anew), and of last tokens and
  // trees.
  metrics::Counter prompt_rows;
  metrics::Counter decode_rows;
  // Of requests that ended.
  metrics::Counter prompt_tokens;
  metrics::Counter cached_prompt_tokens;
  metrics::Counter output_tokens;
  metrics::Counter draft_misses;
  metrics::Counter preemptions;
  std::array<Nodes, kTierKinds> by_tier;
  std::array<Nodes, kPositions> by_position;
  std::array<Confidence, AcceptanceCurve::kBins> by_confidence;
  metrics::Gauge active;
  metrics::Gauge preempted;
  // Seconds between a request's arrival and its first admission.
  metrics::SecondsHistogram queue_seconds;
  // Whole steps; of those that asked for drafts, the wait for them; forward passes.
  metrics::SecondsHistogram step_seconds;
  metrics::SecondsHistogram draft_wait_seconds;
  metrics::SecondsHistogram forward_seconds;
  // Seconds that a step of so many rows is reckoned to take beside what their context costs; 0
  // while no step has been measured or learned from.
  std::array<metrics::Value<double>, kCostRows.size()> step_cost;

  // A tree that was verified: `verified` are the nodes that the model accepted, root to leaf, of
  // which the first `taken` became part of the answer.
  void CountTree(const DraftTree& tree, std::span<const int32_t> verified, size_t taken);
  // A request that was admitted and is about to finish.
  void CountEnd(const GenerationStats& stats);
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SCHEDULER_SCHEDULER_COUNTERS_H_
