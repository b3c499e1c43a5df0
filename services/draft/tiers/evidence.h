#ifndef STRATA_SERVICES_DRAFT_TIERS_EVIDENCE_H_
#define STRATA_SERVICES_DRAFT_TIERS_EVIDENCE_H_

#include <array>
#include <cstdint>
#include <span>

#include "common/base/draft_tree.h"

namespace strata::draft {

// The longest context, in tokens, that any tier is asked about.
inline constexpr int kMaxContextOrder = 8;
// The most continuations of one context that a tier tells.
inline constexpr int kMaxContinuations = 8;
// The most contexts of different length that a tier tells of in one answer.
inline constexpr int kMaxLevels = 3;

// The last tokens of a context with the hash of each of its suffixes: computed once, looked up in
// every tier. A value type of about 100 bytes.
class ContextTail {
 public:
  ContextTail() = default;
  // `context`: most recent token last. Tokens before a negative one do not count.
  explicit ContextTail(std::span<const TokenId> context);

  // The tail of this context followed by `token` (>= 0).
  ContextTail Extended(TokenId token) const;

  // Tokens known, 0 to kMaxContextOrder.
  int size() const { return size_; }
  // back(0) is the most recent token; i < size().
  TokenId back(int i) const { return tokens_[i]; }
  // Hash of the last `order` tokens, 1 <= order <= size(). Keyed per process, so that no client
  // can aim for collisions; never to be stored.
  uint64_t hash(int order) const { return hashes_[order - 1]; }

  // hash(order) of the tail that ends just before `end`; end[-order] ... end[-1] must be readable.
  static uint64_t Hash(const TokenId* end, int order);
  // hash(order) = Extend(hash(order - 1), the token one further back), from Seed().
  static uint64_t Seed();
  static uint64_t Extend(uint64_t hash, TokenId token) {
    // The multiply-and-fold of wyhash: every bit of the halves depends on hash and token.
    const unsigned __int128 product =
        static_cast<unsigned __int128>(hash ^
                                       (static_cast<uint64_t>(token) + 0x9E3779B97F4A7C15u)) *
        0xE7037ED1A0B428DBu;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }

 private:
  void ComputeHashes();

  std::array<TokenId, kMaxContextOrder> tokens_{};
  std::array<uint64_t, kMaxContextOrder> hashes_{};
  int size_ = 0;
};

struct Continuation {
  TokenId token = 0;
  // How often the context was followed by it; at least 1.
  uint32_t count = 0;
};

// What one tier knows of one context.
struct ContextCounts {
  // Tokens of the context that matched.
  uint8_t order = 0;
  // Continuations told, 0 to kMaxContinuations.
  uint8_t size = 0;
  // How often the context occurred with a continuation, told or not: at least the sum of counts.
  uint32_t total = 0;
  // In-memory tiers: the one that followed most recently first. Corpus: the most frequent first,
  // a tie to the lower token.
  std::array<Continuation, kMaxContinuations> continuations;

  std::span<const Continuation> list() const { return {continuations.data(), size}; }
};

// A tier's answer: the longest matched contexts, the longest first.
struct Evidence {
  uint8_t levels = 0;
  std::array<ContextCounts, kMaxLevels> level;

  // Length of the longest match, 0 if nothing matched.
  int longest() const { return levels == 0 ? 0 : level[0].order; }
};

struct MatchQuery {
  // Borrowed for the call.
  const ContextTail* tail = nullptr;
  // Nothing longer than this is looked for. Where the context is one token longer than another that
  // matched at length n in the same tier, n + 1 is enough, and cheaper.
  int max_order = kMaxContextOrder;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_EVIDENCE_H_
