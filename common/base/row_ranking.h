#ifndef STRATA_COMMON_BASE_ROW_RANKING_H_
#define STRATA_COMMON_BASE_ROW_RANKING_H_

#include <array>
#include <cstdint>

#include "common/base/draft_tree.h"

namespace strata {

// The model's most likely next tokens after one row of a forward pass, the most likely first; the
// in-process form of strata.v1.RowRanking (Token Recycling, arXiv 2408.08696).
struct RowRanking {
  static constexpr int kMaxTokens = 8;
  // The last two tokens up to and including the row's own; previous_token is -1 if there is none.
  TokenId previous_token = -1;
  TokenId token = 0;
  // Entries of next_tokens in use.
  uint8_t size = 0;
  std::array<TokenId, kMaxTokens> next_tokens{};
};

}  // namespace strata

#endif  // STRATA_COMMON_BASE_ROW_RANKING_H_
