#ifndef STRATA_SERVICES_DRAFT_CORPUS_CONTEXT_TRIE_H_
#define STRATA_SERVICES_DRAFT_CORPUS_CONTEXT_TRIE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "services/draft/corpus/count_options.h"
#include "services/draft/corpus/snapshot_format.h"
#include "services/draft/corpus/windows.h"

namespace strata::draft {

// Turns sorted windows into the rows of a snapshot. A context of n tokens is a node at depth n of
// the trie of all contexts, most recent token first; its counts are those of the windows that end
// in it and of all nodes below. One pass over the windows gives every order, with only the path to
// the current window in memory, and those closed nodes whose place is not settled yet: nodes go
// into their parent's row until that would be larger than kRowBytes; then each of the parent's
// children gets a row of its own. So rows depend on the counts alone. Not thread-safe.
class ContextTrie {
 public:
  // Rows of one order come ascending by key; spans are borrowed for the call.
  using Sink = std::function<absl::Status(std::span<const TokenId> context, std::string_view row)>;

  // `options` are valid and no shard's.
  ContextTrie(const CountOptions& options, Sink sink);

  // Windows ascending, with contexts of at most max_order tokens. Returns the sink's first error.
  absl::Status Add(const Window& window);
  // Completes the contexts that are still open. No Add after it.
  absl::Status Finish();

  // Contexts of this order that rows hold so far.
  uint64_t contexts(int order) const { return contexts_[order]; }

  // Estimated bytes of a row beyond which its first context's children get rows of their own.
  static constexpr size_t kRowBytes = 1024;

 private:
  struct Level {
    // Tokens that follow the context, unordered and with repetitions.
    std::vector<RankedToken> next;
    // Size that `next` may grow to before it is combined.
    size_t combine_at = kCombineAt;
    // Kept children, closed, if they are still to go into this context's row.
    std::vector<ContextTree> children;
    size_t children_bytes = 0;
    bool children_have_rows = false;
  };
  static constexpr size_t kCombineAt = 1024;

  // Completes the nodes of the path below `depth`.
  absl::Status CloseTo(size_t depth);
  // Fills `node` from combined counts. False if the options leave the context out.
  bool Rank(const std::vector<RankedToken>& next, int order, ContextNode& node) const;
  // Gives a closed child to the context at `depth`, the one of path_[0..depth).
  absl::Status Adopt(size_t depth, ContextTree child, size_t bytes);
  absl::Status EmitRow(std::span<const TokenId> parent, const ContextTree& tree);

  const CountOptions options_;
  const Sink sink_;
  // levels_[d] is the node that path_[0..d) leads to; levels_[0] is not used.
  std::vector<Level> levels_;
  std::vector<TokenId> path_;
  std::array<uint64_t, kMaxContextOrder + 1> contexts_{};
  std::string row_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_CONTEXT_TRIE_H_
