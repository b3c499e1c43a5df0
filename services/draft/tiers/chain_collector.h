#ifndef STRATA_SERVICES_DRAFT_TIERS_CHAIN_COLLECTOR_H_
#define STRATA_SERVICES_DRAFT_TIERS_CHAIN_COLLECTOR_H_

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "services/draft/tiers/ngram_index.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

// How many of the most recent occurrences of one suffix are looked at; bounds the time of a
// lookup, whatever the text.
inline constexpr uint32_t kMaxOccurrences = 64;

// Makes chains of occurrences that are offered order by order, the longest first, and within an
// order the most recent first: keeps each new continuation in that order, and counts how often
// each first token followed. A continuation that is equal to or a prefix of a chain adds none; one
// that prolongs a chain (which had met the end of the text) takes its place.
class ChainCollector {
 public:
  // Appends to `out`, which is borrowed. Chains already in it are left alone.
  ChainCollector(int max_chains, int chain_length, std::vector<Chain>& out);

  bool full() const { return static_cast<int>(out_.size() - begin_) >= max_chains_; }
  // Starts the occurrences of the suffix of `matched` tokens.
  void BeginOrder(int matched);
  // Offers one occurrence; an empty continuation is none. False once kMaxOccurrences were seen.
  bool Add(std::span<const TokenId> continuation);
  // Sets the counts of this order's chains.
  void EndOrder();

 private:
  void Keep(std::span<const TokenId> continuation);

  const int max_chains_;
  const int chain_length_;
  std::vector<Chain>& out_;
  const size_t begin_;
  size_t order_begin_;
  int matched_ = 0;
  uint32_t total_ = 0;
  // First token -> occurrences; linear, at most kMaxOccurrences entries.
  std::vector<std::pair<TokenId, uint32_t>> counts_;
};

// Collects from several indexes as if their texts were one, with the first index the most recent.
// The work of Tier::Lookup for every in-memory tier.
void LookupIndexes(std::span<const NgramIndex* const> indexes, std::span<const TokenId> context,
                   int max_chains, int chain_length, std::vector<Chain>& out);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_CHAIN_COLLECTOR_H_
