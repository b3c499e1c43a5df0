#include "services/draft/hierarchy/calibrated_policy.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "common/base/steady_clock.h"

namespace strata::draft {
namespace {

// A node is expanded when its own path probability times this is the highest on the heap. The
// most that its best child can have is the path's own probability, but expansions cost time and
// the best child rarely has so much; lower values draft as well and expand a fifth fewer nodes
// (strata-replay, 32 nodes: 31.3 expansions at 1, 25.6 at 0.7, the same accepted length).
constexpr float kExpansionDiscount = 0.7f;
// The corpus costs far more to ask than memory. Below this path probability it is asked only where
// no other tier knows anything (strata-replay, 32 and 64 nodes: half the questions, the same
// accepted length within 0.1 %); above it, only where none matches the longest context that there
// is (8 and 32 nodes: a third fewer questions again, the same accepted length).
constexpr float kMinCorpusProbability = 0.03f;
// A thread keeps the memory of messages of so many nodes in all: some 150 bytes each.
constexpr size_t kKeptNodes = 4096;
// Accepted tokens that one message teaches; a step accepts a handful.
constexpr size_t kMaxLearned = 64;

// A place in the tree below which candidates are looked for: the root or a node.
struct Place {
  ContextTail tail;
  float path_probability = 1.0f;
  int depth = 0;
  // What Match need not look beyond; by tier.
  std::array<uint8_t, kEvidenceTierCount> max_order{};
};

// Something that may happen to the tree next: a candidate becomes a node, or a place is expanded.
struct Option {
  float priority = 0;
  // Where the candidate would hang, or the place to expand: an index in places (0 is the root,
  // i + 1 is node i).
  int32_t place = 0;
  bool expand = false;
  Candidate candidate;
};

// Options by falling priority, the first of equals first, and none that cannot come to pass: once
// as many candidates as the tree has room for are before an option, it is dropped.
class OptionQueue {
 public:
  // `room`: the nodes that may still be added.
  void Clear(size_t room) {
    options_.clear();
    next_ = 0;
    candidates_ = 0;
    room_ = room;
  }
  bool empty() const { return next_ == options_.size(); }

  void Push(const Option& option) {
    if (candidates_ == room_ && !empty() && options_.back().priority >= option.priority) return;
    const auto at = std::upper_bound(
        options_.begin() + static_cast<ptrdiff_t>(next_), options_.end(), option.priority,
        [](float priority, const Option& other) { return priority > other.priority; });
    options_.insert(at, option);
    if (option.expand) return;
    ++candidates_;
    while (candidates_ > room_ || (candidates_ == room_ && options_.back().expand)) {
      if (!options_.back().expand) --candidates_;
      options_.pop_back();
    }
  }

  // The first one; not of an empty queue. A candidate takes up room with that.
  Option Pop() {
    const Option option = options_[next_++];
    if (!option.expand) {
      --candidates_;
      --room_;
    }
    return option;
  }

 private:
  std::vector<Option> options_;
  // Those before it are popped.
  size_t next_ = 0;
  size_t candidates_ = 0;
  size_t room_ = 0;
};

// One tree as it grows. Its memory is used again for the next one.
class Growth {
 public:
  void Start(const CalibratedOptions& options, CalibratedJob& job) {
    job_ = &job;
    min_probability_ = static_cast<float>(options.min_path_probability);
    max_depth_ = options.max_depth;
    if (job.limits.max_depth != 0) {
      max_depth_ = static_cast<int>(
          std::min<uint32_t>(job.limits.max_depth, static_cast<uint32_t>(options.max_depth)));
    }
    places_.clear();
    options_.Clear(job.limits.node_budget);
    skipped_ = 0;
    expanding_ = -1;
    job.tree->Clear();
    if (job.limits.node_budget == 0 || job.context.empty()) return;
    places_.reserve(job.limits.node_budget + 1);
    Place& root = places_.emplace_back();
    root.tail = ContextTail(job.context);
    root.max_order.fill(kMaxContextOrder);
    expanding_ = 0;
  }

  // The place whose evidence Grow needs next; null if the tree is complete.
  const Place* expanding() const { return expanding_ < 0 ? nullptr : &places_[expanding_]; }
  const Tier* tier(int index) const { return job_->tiers[index]; }
  // Says that this tier was not asked about expanding().
  void set_skipped(int index) { skipped_ |= 1u << index; }

  // Takes the evidence for expanding() and adds nodes until the next place is to be expanded.
  void Grow(const TierEvidence& evidence, Calibration::Workspace& workspace) {
    Expand(evidence, workspace);
    expanding_ = -1;
    const auto budget = static_cast<int>(job_->limits.node_budget);
    while (!options_.empty() && job_->tree->size() < budget) {
      const Option best = options_.Pop();
      if (best.expand) {
        expanding_ = best.place;
        return;
      }
      AddNode(best);
    }
  }

 private:
  void Expand(const TierEvidence& evidence, Calibration::Workspace& workspace) {
    Place& place = places_[expanding_];
    for (int tier = 0; tier < kEvidenceTierCount; ++tier) {
      const int longest =
          (skipped_ >> tier & 1u) != 0 ? place.max_order[tier] : evidence[tier].longest();
      place.max_order[tier] = static_cast<uint8_t>(std::min(longest + 1, kMaxContextOrder));
    }
    skipped_ = 0;
    job_->calibration->Rank(evidence, job_->limits.vocab_size, workspace);
    for (const Candidate& candidate : workspace.candidates()) {
      const float probability = place.path_probability * candidate.probability;
      if (probability < min_probability_) continue;
      options_.Push({.priority = probability, .place = expanding_, .candidate = candidate});
    }
  }

  void AddNode(const Option& option) {
    const Place& parent = places_[option.place];
    const int depth = parent.depth + 1;
    job_->tree->Add(option.candidate.token, option.place - 1, option.candidate.probability,
                    option.candidate.tier);
    // Room for all was reserved, so that `parent` stays valid.
    Place& place = places_.emplace_back();
    place.path_probability = option.priority;
    place.depth = depth;
    if (depth >= max_depth_) return;
    place.tail = parent.tail.Extended(option.candidate.token);
    place.max_order = parent.max_order;
    options_.Push({.priority = option.priority * kExpansionDiscount,
                   .place = static_cast<int32_t>(places_.size()) - 1,
                   .expand = true,
                   .candidate = {}});
  }

  CalibratedJob* job_ = nullptr;
  float min_probability_ = 0;
  int max_depth_ = 0;
  std::vector<Place> places_;
  OptionQueue options_;
  // Bit i: tier i was not asked about expanding_.
  uint32_t skipped_ = 0;
  int32_t expanding_ = -1;
};

// Asks one tier for several contexts together.
class TierBatch {
 public:
  void Clear() {
    queries_.clear();
    targets_.clear();
  }
  void Add(const MatchQuery& query, Evidence* target) {
    queries_.push_back(query);
    targets_.push_back(target);
  }
  // Returns how many of them were asked for by `deadline`, the first ones; the rest stays as it is.
  // Only the corpus can be late: what is in memory takes microseconds, and is asked all the same. A
  // first read is under way at once: whoever asks has just looked at the clock.
  size_t Run(const Tier& tier, absl::Time deadline) {
    const std::span<const MatchQuery> queries(queries_);
    const bool in_memory = tier.kind() != TierKind::kCorpus;
    for (size_t begin = 0; begin < queries.size(); begin += kMatchBatch) {
      if (!in_memory && begin > 0 && SteadyNow() >= deadline) return begin;
      const size_t size = std::min(kMatchBatch, queries.size() - begin);
      // The usual case needs no copy.
      if (size == 1) {
        tier.Match(queries.subspan(begin, 1), kMaxLevels, {targets_[begin], 1});
        continue;
      }
      const auto answers = std::span(answers_).first(size);
      tier.Match(queries.subspan(begin, size), kMaxLevels, answers);
      for (size_t i = 0; i < size; ++i) *targets_[begin + i] = answers[i];
    }
    return queries.size();
  }

 private:
  std::vector<MatchQuery> queries_;
  std::vector<Evidence*> targets_;
  std::array<Evidence, kMatchBatch> answers_;
};

// What a thread keeps from one message to the next: to allocate it anew is a tenth of the time.
struct Scratch {
  std::vector<Growth> growths;
  std::vector<Growth*> growing;
  std::vector<TierEvidence> evidence;
  TierBatch batch;
  Calibration::Workspace workspace;
};

// Whether the corpus need not be asked about a place, for what the tiers in memory know of it.
bool CanSkipCorpus(const TierEvidence& evidence, float path_probability) {
  static_assert(kEvidenceTiers.back() == TierKind::kCorpus);
  int longest = 0;
  for (size_t tier = 0; tier + 1 < evidence.size(); ++tier) {
    longest = std::max(longest, evidence[tier].longest());
  }
  return longest == kMaxContextOrder || (longest > 0 && path_probability < kMinCorpusProbability);
}

// One round: the evidence for expanding() of each of `growing`, as far as it is there by
// `deadline`.
void GatherEvidence(std::span<Growth* const> growing, absl::Time deadline,
                    std::span<TierEvidence> evidence, TierBatch& batch) {
  for (int tier = 0; tier < kEvidenceTierCount; ++tier) {
    // Growths that share the tier are asked for together: all of them for a corpus, neighbours
    // for the rest.
    const Tier* asked = nullptr;
    batch.Clear();
    for (size_t i = 0; i < growing.size(); ++i) {
      const Tier* source = growing[i]->tier(tier);
      evidence[i][tier].levels = 0;
      if (source == nullptr) continue;
      if (kEvidenceTiers[tier] == TierKind::kCorpus &&
          CanSkipCorpus(evidence[i], growing[i]->expanding()->path_probability)) {
        growing[i]->set_skipped(tier);
        continue;
      }
      if (source != asked) {
        if (asked != nullptr) batch.Run(*asked, deadline);
        batch.Clear();
        asked = source;
      }
      const Place& place = *growing[i]->expanding();
      batch.Add({&place.tail, place.max_order[tier]}, &evidence[i][tier]);
    }
    if (asked != nullptr) batch.Run(*asked, deadline);
  }
}

}  // namespace

absl::Status ValidateCalibratedOptions(const CalibratedOptions& options) {
  // Written so that NaN fails too.
  if (!(options.min_path_probability >= 0.0 && options.min_path_probability <= 1.0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the least path probability is ", options.min_path_probability, ", must be 0 to 1"));
  }
  if (options.max_depth < 1 || options.max_depth > kMaxCalibratedDepth) {
    return absl::InvalidArgumentError(absl::StrCat("the depth of trees is ", options.max_depth,
                                                   ", must be 1 to ", kMaxCalibratedDepth));
  }
  return absl::OkStatus();
}

void GrowTrees(const CalibratedOptions& options, std::span<CalibratedJob> jobs,
               absl::Time deadline) {
  thread_local Scratch scratch;
  if (scratch.growths.size() < jobs.size()) scratch.growths.resize(jobs.size());
  std::vector<Growth*>& growing = scratch.growing;
  growing.clear();
  size_t nodes = 0;
  for (size_t i = 0; i < jobs.size(); ++i) {
    scratch.growths[i].Start(options, jobs[i]);
    nodes += jobs[i].limits.node_budget;
    if (scratch.growths[i].expanding() != nullptr) growing.push_back(&scratch.growths[i]);
  }
  std::vector<TierEvidence>& evidence = scratch.evidence;
  if (evidence.size() < growing.size()) evidence.resize(growing.size());
  while (!growing.empty() && SteadyNow() < deadline) {
    GatherEvidence(growing, deadline, std::span(evidence).first(growing.size()), scratch.batch);
    for (size_t i = 0; i < growing.size(); ++i) growing[i]->Grow(evidence[i], scratch.workspace);
    std::erase_if(growing, [](const Growth* growth) { return growth->expanding() == nullptr; });
  }
  if (nodes > kKeptNodes) scratch = {};
}

Observation ObserveAccepted(const EvidenceSources& tiers, std::span<const TokenId> context,
                            std::span<const TokenId> tokens) {
  Observation observation;
  tokens = tokens.first(std::min(tokens.size(), kMaxLearned));
  if (tokens.empty() || context.empty()) return observation;
  observation.tokens.assign(tokens.begin(), tokens.end());
  std::vector<ContextTail>& tails = observation.contexts;
  tails.reserve(tokens.size());
  tails.emplace_back(context);
  while (tails.size() < tokens.size()) {
    tails.push_back(tails.back().Extended(tokens[tails.size() - 1]));
  }
  std::vector<MatchQuery> queries(tails.size());
  for (size_t i = 0; i < tails.size(); ++i) queries[i].tail = &tails[i];
  observation.evidence.resize(tails.size());
  std::vector<Evidence> answers(tails.size());
  for (int tier = 0; tier < kEvidenceTierCount; ++tier) {
    if (tiers[tier] == nullptr) continue;
    tiers[tier]->Match(queries, kMaxLevels, answers);
    for (size_t i = 0; i < tails.size(); ++i) observation.evidence[i][tier] = answers[i];
  }
  return observation;
}

void ObserveCorpus(const Tier& corpus, std::span<Observation* const> observations,
                   absl::Time deadline) {
  static_assert(kEvidenceTiers.back() == TierKind::kCorpus);
  TierBatch batch;
  for (Observation* const observation : observations) {
    for (size_t i = 0; i < observation->contexts.size(); ++i) {
      batch.Add({&observation->contexts[i], kMaxContextOrder}, &observation->evidence[i].back());
    }
  }
  size_t asked = SteadyNow() < deadline ? batch.Run(corpus, deadline) : 0;
  // To learn that the corpus knew nothing of the rest would be wrong.
  for (Observation* const observation : observations) {
    const size_t kept = std::min(asked, observation->tokens.size());
    observation->tokens.resize(kept);
    asked -= kept;
  }
}

void LearnObservation(const Observation& observation, int64_t vocab_size,
                      Calibration& calibration) {
  thread_local Calibration::Workspace workspace;
  for (size_t i = 0; i < observation.tokens.size(); ++i) {
    calibration.Learn(observation.evidence[i], vocab_size, observation.tokens[i], workspace);
  }
}

}  // namespace strata::draft
