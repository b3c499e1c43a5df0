#include "services/draft/tiers/model_tier.h"

#include <algorithm>
#include <utility>

#include "services/draft/tiers/chain_collector.h"

namespace strata::draft {

ModelTier::ModelTier(size_t block_tokens) : block_tokens_(block_tokens) {}

void ModelTier::Append(std::span<const TokenId> tokens, uint32_t first_key, uint32_t end_key) {
  end_key = std::min<uint32_t>(end_key, static_cast<uint32_t>(tokens.size()));
  if (first_key >= end_key) return;
  absl::MutexLock lock(&mutex_);
  // The boundary before a segment is part of its size.
  if (blocks_.empty() || blocks_.back()->index.text().size() + tokens.size() + 1 > block_tokens_) {
    blocks_.push_back(std::make_shared<Block>());
    bytes_ += blocks_.back()->bytes();
  }
  Block& block = *blocks_.back();
  const size_t before = block.bytes();
  block.index.AppendBoundary();
  block.marks.push_back({static_cast<uint32_t>(block.index.text().size()),
                         static_cast<uint32_t>(tokens.size()), first_key, end_key});
  for (uint32_t i = 0; i < tokens.size(); ++i) {
    block.index.Append(tokens[i], i >= first_key && i < end_key);
  }
  bytes_ += block.bytes() - before;
  ++version_;
}

bool ModelTier::DropOldestBlock() {
  // Freed after the lock is: it may be large.
  std::shared_ptr<Block> oldest;
  absl::MutexLock lock(&mutex_);
  if (blocks_.empty()) return false;
  oldest = std::move(blocks_.front());
  blocks_.pop_front();
  bytes_ -= oldest->bytes();
  ++version_;
  return true;
}

size_t ModelTier::bytes() const {
  absl::ReaderMutexLock lock(&mutex_);
  return sizeof(*this) + bytes_;
}

uint64_t ModelTier::version() const {
  absl::ReaderMutexLock lock(&mutex_);
  return version_;
}

std::vector<ModelSegment> ModelTier::Segments(uint64_t* version) const {
  std::vector<ModelSegment> segments;
  const auto copy = [&segments](const Block& block) {
    for (const Mark& mark : block.marks) {
      const auto text = block.index.text().subspan(mark.begin, mark.size);
      segments.push_back({{text.begin(), text.end()}, mark.first_key, mark.end_key});
    }
  };
  // Full blocks are copied after the lock is freed, so that saving holds up no draft for long.
  std::vector<std::shared_ptr<Block>> full;
  std::vector<ModelSegment> growing;
  {
    absl::ReaderMutexLock lock(&mutex_);
    *version = version_;
    if (blocks_.empty()) return segments;
    full.assign(blocks_.begin(), blocks_.end() - 1);
    copy(*blocks_.back());
    growing.swap(segments);
  }
  for (const auto& block : full) copy(*block);
  for (ModelSegment& segment : growing) segments.push_back(std::move(segment));
  return segments;
}

void ModelTier::Lookup(std::span<const TokenId> context, int max_chains, int chain_length,
                       std::vector<Chain>& out) const {
  std::vector<const NgramIndex*> indexes;
  absl::ReaderMutexLock lock(&mutex_);
  indexes.reserve(blocks_.size());
  for (auto it = blocks_.rbegin(); it != blocks_.rend(); ++it) indexes.push_back(&(*it)->index);
  LookupIndexes(indexes, context, max_chains, chain_length, out);
}

}  // namespace strata::draft
