#ifndef STRATA_SERVICES_DRAFT_HIERARCHY_TREE_DRAFTER_H_
#define STRATA_SERVICES_DRAFT_HIERARCHY_TREE_DRAFTER_H_

#include <cstddef>
#include <memory>
#include <span>

#include "absl/time/time.h"
#include "common/base/draft_tree.h"
#include "services/draft/hierarchy/calibrated_policy.h"
#include "services/draft/hierarchy/calibration_store.h"
#include "services/draft/hierarchy/draft_limits.h"
#include "services/draft/hierarchy/drafter.h"
#include "services/draft/hierarchy/helper_threads.h"
#include "services/draft/hierarchy/locality_policy.h"
#include "services/draft/tiers/model_key.h"
#include "services/draft/tiers/model_store.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

struct PolicyOptions {
  // What Policy::kDefault stands for.
  Policy policy = Policy::kCalibrated;
  LocalityOptions locality;
  CalibratedOptions calibrated;
  // Models and tenants whose calibration is held in memory, 137 KB each; at least 1.
  size_t max_calibrations = 256;
  // Threads that draft for the sequences of one message, 1 to kMaxDraftThreads. The trees do not
  // depend on how many.
  int draft_threads = 1;
};
inline constexpr int kMaxDraftThreads = 64;

// One tree to draft. Everything is borrowed for the call.
struct TreeRequest {
  // Null: the sequence has no such tier.
  const Tier* predicted = nullptr;
  const Tier* context_tier = nullptr;
  const ModelKey* key = nullptr;
  std::span<const TokenId> context;
  Policy policy = Policy::kDefault;
  DraftLimits limits;
  // Nothing may be kept of the request, not even that its model and tenant exist.
  bool stateless = false;
  DraftTree* tree = nullptr;
};

// The tiers that sequences share, and the policies that draft from all tiers. Knows nothing of
// sessions or sequences. Thread-safe.
class TreeDrafter {
 public:
  // `options` are valid; `corpus` and `models` may be null.
  TreeDrafter(const PolicyOptions& options, std::shared_ptr<const Tier> corpus,
              std::shared_ptr<ModelStore> models);

  // Fills every request's tree. Those of the calibrated policy are drafted together. After
  // `deadline` trees are left as they are, possibly empty; by locality, where sequences are drafted
  // one after the other, each has an even share of the time that those before it left.
  void Draft(std::span<const TreeRequest> requests, absl::Time deadline) const;
  // What there is to learn from `tokens`, which verification accepted after request.context;
  // nothing for policies that do not learn, nor after `deadline`. The context tier must not hold
  // them yet; request.tree is not used. The corpus, which takes the longest to ask and does not
  // change with them, is left to ObserveCorpus.
  Observation Observe(const TreeRequest& request, std::span<const TokenId> tokens,
                      absl::Time deadline) const;
  // Adds what the corpus knew, as far as it tells by `deadline`.
  void ObserveCorpus(std::span<Observation* const> observations, absl::Time deadline) const;
  // Calibrates the drafts of `key` with what was observed.
  void Learn(const ModelKey& key, const Observation& observation, int64_t vocab_size) const;
  // Makes room for the calibrations that drafts have read. May take as long as to teach.
  void DropExcessCalibrations() const { calibrations_.DropExcess(); }
  // Hands what was learned to the model store, where it is at least so many observations.
  void SaveCalibrations(uint64_t least_news = 1) const { calibrations_.Save(least_news); }

 private:
  // What a request reads, kept alive while it does.
  struct Sources {
    std::shared_ptr<const Tier> model;
    std::shared_ptr<const Tier> recycled;
    // In the order of kEvidenceTiers.
    EvidenceSources tiers{};
  };

  bool IsCalibrated(const TreeRequest& request) const;
  // GrowTrees, on several threads if that is worth it.
  void Grow(std::span<CalibratedJob> jobs, absl::Time deadline) const;
  Sources SourcesOf(const TreeRequest& request) const;

  const PolicyOptions options_;
  const std::shared_ptr<const Tier> corpus_;
  const std::shared_ptr<ModelStore> models_;
  mutable CalibrationStore calibrations_;
  mutable HelperThreads helpers_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_HIERARCHY_TREE_DRAFTER_H_
