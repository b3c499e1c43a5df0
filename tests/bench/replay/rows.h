#ifndef STRATA_TESTS_BENCH_REPLAY_ROWS_H_
#define STRATA_TESTS_BENCH_REPLAY_ROWS_H_

#include <array>
#include <cstdint>
#include <istream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/draft_tree.h"
#include "common/base/row_ranking.h"

namespace strata::replay {

// A recorded answer: what a model said, greedily, to one prompt.
struct Row {
  std::string category;
  // Never empty.
  std::vector<TokenId> prompt;
  std::vector<TokenId> output;
  // Text that the client expected in the output; usually empty.
  std::vector<TokenId> predicted;
  // ranking[j]: the model's most likely tokens at the place of output[j]. Empty, or one entry for
  // each token of a beginning of the output.
  std::vector<std::vector<TokenId>> rankings;
};

// Reads one JSON object a line: `category`, `prompt_tokens`, `output_tokens`, and if there are any
// `predicted_tokens` and `top` (rankings, each of at most RowRanking::kMaxTokens tokens).
// Other members are ignored, and so are empty lines. NOT_FOUND if there is no such file;
// INVALID_ARGUMENT names the line and what is wrong in it, also a token outside [0, vocab_size).
absl::StatusOr<std::vector<Row>> LoadRows(const std::string& path, int64_t vocab_size);
// The same from a stream; `name` is what messages call it.
absl::StatusOr<std::vector<Row>> ReadRows(std::istream& in, const std::string& name,
                                          int64_t vocab_size);

}  // namespace strata::replay

#endif  // STRATA_TESTS_BENCH_REPLAY_ROWS_H_
