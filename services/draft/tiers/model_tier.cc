#include "services/draft/tiers/model_tier.h"

#include <algorithm>
#include <thread>
#include <utility>

namespace strata::draft {
namespace {

// A table of a 256 MiB tier then has 4 MiB: what its growth takes at once beside the old one, and a
// few milliseconds of a writer.
constexpr int kShards = 64;
// The share of the segments that is forgotten at a time, and the most: some ten milliseconds.
constexpr size_t kForgottenShare = 16;
constexpr size_t kMostForgotten = 256;

// The text whose n-grams a segment teaches, and where it begins to.
std::span<const TokenId> TextOf(const ModelSegment& segment) {
  return std::span(segment.tokens)
      .first(std::min<size_t>(segment.tokens.size(), size_t{segment.end_key} + 1));
}

}  // namespace

ModelTier::ModelTier() : counts_(kShards), bytes_(sizeof(*this) + counts_.bytes()) {}

size_t ModelTier::SegmentBytes(const ModelSegment& segment) {
  return sizeof(segment) + segment.tokens.capacity() * sizeof(TokenId);
}

void ModelTier::Append(std::span<const TokenId> tokens, uint32_t first_key, uint32_t end_key) {
  end_key = std::min<uint32_t>(end_key, static_cast<uint32_t>(tokens.size()));
  if (first_key >= end_key) return;
  absl::MutexLock lock(&mutex_);
  const ModelSegment& segment =
      segments_.emplace_back(ModelSegment{{tokens.begin(), tokens.end()}, first_key, end_key});
  segment_bytes_ += SegmentBytes(segment);
  counts_.Teach(TextOf(segment), size_t{first_key} + 1);
  version_.fetch_add(1, std::memory_order_relaxed);
  Settle();
}

bool ModelTier::ForgetOldest() {
  absl::MutexLock lock(&mutex_);
  if (segments_.empty()) return false;
  const size_t before = segments_.size();
  const size_t forgotten = std::min(before / kForgottenShare + 1, kMostForgotten);
  for (size_t i = 0; i < forgotten; ++i) {
    const ModelSegment& segment = segments_.front();
    counts_.Forget(TextOf(segment), size_t{segment.first_key} + 1);
    segment_bytes_ -= SegmentBytes(segment);
    segments_.pop_front();
  }
  // Every shard has its turn when an eighth of the text is gone.
  counts_.Compact(segments_.empty() ? counts_.shards()
                                    : counts_.shards() * 8 * forgotten / before + 1);
  version_.fetch_add(1, std::memory_order_relaxed);
  Settle();
  return true;
}

void ModelTier::Settle() {
  if (counts_.has_retired()) {
    // Freed before this returns, because what waits for a reader that lost its core would add up,
    // and eviction would forget ever more text for memory that does not come back. Readers stay for
    // microseconds otherwise.
    const auto leaving = counts_.TakeRetired();
    gate_.Flip();
    while (!gate_.Drained()) std::this_thread::yield();
  }
  bytes_.store(sizeof(*this) + counts_.bytes() + segment_bytes_, std::memory_order_relaxed);
}

std::vector<ModelSegment> ModelTier::Segments(uint64_t* version) const {
  absl::MutexLock lock(&mutex_);
  *version = version_.load(std::memory_order_relaxed);
  return {segments_.begin(), segments_.end()};
}

void ModelTier::Match(std::span<const MatchQuery> queries, int levels,
                      std::span<Evidence> out) const {
  const ReadGate::Pass pass(gate_);
  counts_.Match(queries, levels, out);
}

}  // namespace strata::draft
