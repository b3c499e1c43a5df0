#ifndef STRATA_SERVICES_DRAFT_HIERARCHY_CALIBRATED_POLICY_H_
#define STRATA_SERVICES_DRAFT_HIERARCHY_CALIBRATED_POLICY_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/base/draft_tree.h"
#include "services/draft/hierarchy/calibration.h"
#include "services/draft/hierarchy/draft_limits.h"
#include "services/draft/tiers/evidence.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

struct CalibratedOptions {
  // A node is not worth a row below this probability that its whole path is right; 0 to 1. The
  // verifier's node budget says what rows cost; this only keeps hopeless nodes off the wire.
  double min_path_probability = 0.001;
  // Nodes on one path, 1 to kMaxCalibratedDepth.
  int max_depth = 32;
};
inline constexpr int kMaxCalibratedDepth = 256;

// INVALID_ARGUMENT names the option that is out of range.
absl::Status ValidateCalibratedOptions(const CalibratedOptions& options);

// In the order of kEvidenceTiers; null where there is no such tier.
using EvidenceSources = std::array<const Tier*, kEvidenceTierCount>;

// One draft to make. Everything is borrowed until GrowTrees returns.
struct CalibratedJob {
  EvidenceSources tiers{};
  std::span<const TokenId> context;
  const Calibration* calibration = nullptr;
  DraftLimits limits;
  // Replaced. Nodes come in falling path probability, but for rounding; a node's confidence is
  // its candidate's probability.
  DraftTree* tree = nullptr;
};

// Grows each job's tree best first: of all candidates below the context and the nodes so far, the
// one whose path has the highest product of probabilities comes next, until the budget is spent
// or none is worth a row. (The sketch of DESIGN.md; the tree of highest expected accepted length
// for a given number of nodes if the probabilities are right, as in Sequoia, arXiv 2402.12374,
// section 3.1, and OPT-Tree, arXiv 2406.17276.)
//
// The jobs grow in step, so that every round asks each tier once for all of them: a corpus on
// disk answers kMatchBatch of them in one read. After `deadline` no tier is asked any more, and
// trees stay as far as what was known by then takes them.
void GrowTrees(const CalibratedOptions& options, std::span<CalibratedJob> jobs,
               absl::Time deadline);

// Tokens that verification accepted, and what the tiers knew of the context of each.
struct Observation {
  std::vector<TokenId> tokens;
  // Of each token in its order; what is behind them belongs to tokens that were taken out.
  std::vector<ContextTail> contexts;
  std::vector<TierEvidence> evidence;
};

// That `tokens` (the first 64) came after `context`, one after the other. The tiers must not hold
// them yet.
Observation ObserveAccepted(const EvidenceSources& tiers, std::span<const TokenId> context,
                            std::span<const TokenId> tokens);
// Adds what `corpus` knows, which those tokens do not change; asks for the contexts of all
// `observations` together. Tokens whose contexts it was not asked for by `deadline` are taken out.
void ObserveCorpus(const Tier& corpus, std::span<Observation* const> observations,
                   absl::Time deadline);
// Teaches `calibration` what was observed, at any later time.
void LearnObservation(const Observation& observation, int64_t vocab_size, Calibration& calibration);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_HIERARCHY_CALIBRATED_POLICY_H_
