#ifndef STRATA_SERVICES_VERIFY_ENGINE_RANKING_H_
#define STRATA_SERVICES_VERIFY_ENGINE_RANKING_H_

#include <cstdint>
#include <span>

namespace strata::engine {

// Logits in one block of ForwardOutput::block_max; the last block of a row may hold fewer.
inline constexpr int64_t kLogitBlock = 64;
inline constexpr int64_t LogitBlocks(int64_t vocab_size) {
  return (vocab_size + kLogitBlock - 1) / kLogitBlock;
}

// Fills top[0 .. return value) with the ids of the highest logits, the highest first, a tie to
// the lower id. NaN counts as -inf. Returns min(top.size(), logits.size()).
//
// `block_max` holds the greatest logit of each block, exactly (NaN counts as -inf): with it, no
// more blocks are read than tokens are wanted, but for ties, and all are fetched at once, a few us
// a row of 49,152 that is in no cache instead of 20.
int TopTokens(std::span<const float> logits, std::span<const float> block_max,
              std::span<int32_t> top);

// Writes the greatest logit of each block of a row to block_max[0 .. LogitBlocks(size)).
void BlockMaxima(std::span<const float> logits, float* block_max);

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_RANKING_H_
