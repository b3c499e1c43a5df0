#ifndef STRATA_SERVICES_DRAFT_TIERS_MODEL_TIER_H_
#define STRATA_SERVICES_DRAFT_TIERS_MODEL_TIER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "services/draft/tiers/model_file.h"
#include "services/draft/tiers/ngram_index.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

// What one model has said for one tenant (Hierarchy Drafting, arXiv 2502.05609, section 3.1,
// "model-dependent database", learned from real traffic instead of beforehand).
//
// Segments lie in blocks of up to `block_tokens`, each with an index of its own; the oldest
// block is dropped as a whole, which frees its memory at once and touches no other. A lookup
// holds the lock shared, Append holds it for one segment, so neither waits long for the other.
// Thread-safe.
class ModelTier final : public Tier {
 public:
  explicit ModelTier(size_t block_tokens);

  // Teaches one segment; `tokens` >= 0, keys as in ModelSegment. Segments of no keys are ignored.
  void Append(std::span<const TokenId> tokens, uint32_t first_key, uint32_t end_key)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Forgets the oldest block; false if there is none.
  bool DropOldestBlock() ABSL_LOCKS_EXCLUDED(mutex_);

  // Memory held, in bytes.
  size_t bytes() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Raised by every change of content.
  uint64_t version() const ABSL_LOCKS_EXCLUDED(mutex_);
  // A copy of all segments, the oldest first, and the version they are of.
  std::vector<ModelSegment> Segments(uint64_t* version) const ABSL_LOCKS_EXCLUDED(mutex_);

  TierKind kind() const override { return TierKind::kModel; }
  // Newer blocks count as more recent.
  void Lookup(std::span<const TokenId> context, int max_chains, int chain_length,
              std::vector<Chain>& out) const override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // Where a segment lies in its block's text.
  struct Mark {
    uint32_t begin = 0;
    uint32_t size = 0;
    uint32_t first_key = 0;
    uint32_t end_key = 0;
  };
  struct Block {
    NgramIndex index;
    std::vector<Mark> marks;
    size_t bytes() const { return index.bytes() + marks.capacity() * sizeof(Mark); }
  };

  const size_t block_tokens_;
  mutable absl::Mutex mutex_;
  // Oldest first. Only the last one grows, under the exclusive lock; a full one never changes.
  std::deque<std::shared_ptr<Block>> blocks_ ABSL_GUARDED_BY(mutex_);
  uint64_t version_ ABSL_GUARDED_BY(mutex_) = 0;
  // Sum of blocks_' bytes().
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_MODEL_TIER_H_
