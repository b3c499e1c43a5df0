#include "services/draft/tiers/evidence.h"

#include <algorithm>
#include <random>

namespace strata::draft {

uint64_t ContextTail::Seed() {
  static const uint64_t seed = [] {
    std::random_device device;
    return (static_cast<uint64_t>(device()) << 32) | device();
  }();
  return seed;
}

uint64_t ContextTail::Hash(const TokenId* end, int order) {
  uint64_t hash = Seed();
  for (int i = 1; i <= order; ++i) hash = Extend(hash, end[-i]);
  return hash;
}

ContextTail::ContextTail(std::span<const TokenId> context) {
  const size_t most = std::min<size_t>(context.size(), kMaxContextOrder);
  for (size_t i = 0; i < most && context[context.size() - 1 - i] >= 0; ++i) {
    tokens_[size_++] = context[context.size() - 1 - i];
  }
  ComputeHashes();
}

ContextTail ContextTail::Extended(TokenId token) const {
  ContextTail tail;
  tail.tokens_[0] = token;
  tail.size_ = std::min(size_ + 1, kMaxContextOrder);
  std::copy_n(tokens_.begin(), tail.size_ - 1, tail.tokens_.begin() + 1);
  tail.ComputeHashes();
  return tail;
}

void ContextTail::ComputeHashes() {
  uint64_t hash = Seed();
  for (int i = 0; i < size_; ++i) {
    hash = Extend(hash, tokens_[i]);
    hashes_[i] = hash;
  }
}

}  // namespace strata::draft
