#ifndef STRATA_SERVICES_DRAFT_TIERS_MODEL_TIER_H_
#define STRATA_SERVICES_DRAFT_TIERS_MODEL_TIER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "services/draft/tiers/model_file.h"
#include "services/draft/tiers/ngram_counts.h"
#include "services/draft/tiers/read_gate.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

// What one model has said for one tenant (Hierarchy Drafting, arXiv 2502.05609, section 3.1,
// "model-dependent database", learned from real traffic instead of beforehand): the text in
// segments, for saving and forgetting, and the counts of its n-grams.
//
// Thread-safe. Match waits for nobody: neither for Append nor for Forget (NgramCounts, ReadGate).
class ModelTier final : public Tier {
 public:
  ModelTier();

  // Teaches one segment; tokens >= 0, keys as in ModelSegment. Segments of no keys are ignored.
  void Append(std::span<const TokenId> tokens, uint32_t first_key, uint32_t end_key)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Forgets some of the oldest segments, at most a sixteenth of all but at least one, and gives
  // memory back: of some shards in turn, so that it takes milliseconds and several calls may be
  // needed. False if there is none.
  bool ForgetOldest() ABSL_LOCKS_EXCLUDED(mutex_);

  // Memory held, in bytes.
  size_t bytes() const { return bytes_.load(std::memory_order_relaxed); }
  // Raised by every change of content.
  uint64_t version() const { return version_.load(std::memory_order_relaxed); }
  // A copy of all segments, the oldest first, and the version they are of.
  std::vector<ModelSegment> Segments(uint64_t* version) const ABSL_LOCKS_EXCLUDED(mutex_);

  TierKind kind() const override { return TierKind::kModel; }
  void Match(std::span<const MatchQuery> queries, int levels,
             std::span<Evidence> out) const override;

 private:
  static size_t SegmentBytes(const ModelSegment& segment);
  // Frees replaced tables once no reader can see them any more, and updates bytes_.
  void Settle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Of writers, and of Segments; not of Match.
  mutable absl::Mutex mutex_;
  std::deque<ModelSegment> segments_ ABSL_GUARDED_BY(mutex_);
  size_t segment_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // Changed under mutex_, matched without.
  NgramCounts counts_;
  mutable ReadGate gate_;
  std::atomic<size_t> bytes_ = 0;
  std::atomic<uint64_t> version_ = 0;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_MODEL_TIER_H_
