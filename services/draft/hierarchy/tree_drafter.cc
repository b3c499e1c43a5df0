#include "services/draft/hierarchy/tree_drafter.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/base/steady_clock.h"

namespace strata::draft {

namespace {

// Nodes that a thread drafts before another is worth waking: one or two microseconds each.
constexpr uint32_t kNodesAThread = 64;

// An even share of the time left, for the first of so many sequences: what it leaves is the
// others'.
absl::Time ShareOf(absl::Time deadline, ptrdiff_t sequences) {
  if (sequences == 1 || deadline == absl::InfiniteFuture()) return deadline;
  const absl::Time now = SteadyNow();
  return now + (deadline - now) / sequences;
}

}  // namespace

TreeDrafter::TreeDrafter(const PolicyOptions& options, std::shared_ptr<const Tier> corpus,
                         std::shared_ptr<ModelStore> models)
    : options_(options),
      corpus_(std::move(corpus)),
      models_(std::move(models)),
      calibrations_(models_.get(), options.max_calibrations),
      helpers_(options.draft_threads - 1) {}

bool TreeDrafter::IsCalibrated(const TreeRequest& request) const {
  const Policy policy = request.policy == Policy::kDefault ? options_.policy : request.policy;
  return policy == Policy::kCalibrated;
}

TreeDrafter::Sources TreeDrafter::SourcesOf(const TreeRequest& request) const {
  Sources sources;
  if (models_ != nullptr) {
    sources.model = models_->Find(*request.key);
    sources.recycled = models_->FindRecycled(*request.key);
  }
  sources.tiers = {request.predicted, request.context_tier, sources.recycled.get(),
                   sources.model.get(), corpus_.get()};
  return sources;
}

void TreeDrafter::Draft(std::span<const TreeRequest> requests, absl::Time deadline) const {
  std::vector<Sources> sources;
  std::vector<std::shared_ptr<const Calibration>> calibrations;
  std::vector<CalibratedJob> jobs;
  sources.reserve(requests.size());
  calibrations.reserve(requests.size());
  jobs.reserve(requests.size());
  for (auto one = requests.begin(); one != requests.end(); ++one) {
    const TreeRequest& request = *one;
    request.tree->Clear();
    sources.push_back(SourcesOf(request));
    if (IsCalibrated(request)) {
      // Sequences of one model and tenant, which is most batches, share the last one's.
      const bool same = !jobs.empty() && *one[-1].key == *request.key && IsCalibrated(one[-1]);
      if (same) {
        calibrations.push_back(calibrations.back());
      } else if (request.stateless) {
        calibrations.push_back(calibrations_.Peek(*request.key));
      } else {
        calibrations.push_back(calibrations_.Read(*request.key));
      }
      jobs.push_back({.tiers = sources.back().tiers,
                      .context = request.context,
                      .calibration = calibrations.back().get(),
                      .limits = request.limits,
                      .tree = request.tree});
    } else {
      // The paper knows no recycled candidates.
      const std::array<const Tier*, 4> tiers = {request.predicted, request.context_tier,
                                                sources.back().model.get(), corpus_.get()};
      // The calibrated ones come after all of these.
      const ptrdiff_t left = requests.end() - one + std::ssize(jobs);
      DraftByLocality(options_.locality, tiers, request.context, request.limits,
                      ShareOf(deadline, left), *request.tree);
    }
  }
  Grow(jobs, deadline);
}

void TreeDrafter::Grow(std::span<CalibratedJob> jobs, absl::Time deadline) const {
  size_t nodes = 0;
  for (const CalibratedJob& job : jobs) nodes += job.limits.node_budget;
  // Together they ask the corpus once a round: apart only where there is enough for each.
  const size_t parts = std::clamp<size_t>(std::min(nodes / kNodesAThread, jobs.size()), 1,
                                          static_cast<size_t>(options_.draft_threads));
  helpers_.Run(static_cast<int>(parts), [&](int part) {
    const size_t begin = jobs.size() * static_cast<size_t>(part) / parts;
    const size_t end = jobs.size() * (static_cast<size_t>(part) + 1) / parts;
    GrowTrees(options_.calibrated, jobs.subspan(begin, end - begin), deadline);
  });
}

Observation TreeDrafter::Observe(const TreeRequest& request, std::span<const TokenId> tokens,
                                 absl::Time deadline) const {
  if (!IsCalibrated(request) || SteadyNow() >= deadline) return {};
  Sources sources = SourcesOf(request);
  sources.tiers.back() = nullptr;
  return ObserveAccepted(sources.tiers, request.context, tokens);
}

void TreeDrafter::ObserveCorpus(std::span<Observation* const> observations,
                                absl::Time deadline) const {
  if (corpus_ != nullptr) draft::ObserveCorpus(*corpus_, observations, deadline);
}

void TreeDrafter::Learn(const ModelKey& key, const Observation& observation,
                        int64_t vocab_size) const {
  if (observation.tokens.empty()) return;
  LearnObservation(observation, vocab_size, *calibrations_.Get(key));
}

}  // namespace strata::draft
