#ifndef STRATA_SERVICES_DRAFT_CORPUS_CONTEXT_TRIE_H_
#define STRATA_SERVICES_DRAFT_CORPUS_CONTEXT_TRIE_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "common/base/draft_tree.h"
#include "services/draft/corpus/snapshot_format.h"

namespace strata::draft {

// What of the counts goes into a snapshot.
struct CountOptions {
  // Context lengths, each 1 to kMaxOrder, ascending, distinct, at least one.
  std::vector<int> orders = {1, 2, 3, 4, 5, 6};
  // Continuations of a context, 1 to kMaxTop.
  int top = 8;
  // Tokens of a continuation, 1 to kMaxDepth.
  int depth = 4;
  // Contexts that occur less often are left out; at least 1.
  uint64_t prune_count = 1;

  // Tokens that one window needs.
  int window() const { return orders.back() + depth; }
};

// INVALID_ARGUMENT names the option that is out of its bounds, and the bounds.
absl::Status ValidateCountOptions(const CountOptions& options);

// Turns sorted windows into contexts. A path of the trie of all windows is both
// the context of some order and the continuation of shorter ones, so one pass over
// the windows gives every order, and only the path to the current window is in
// memory: a context is complete as soon as a window comes that it does not begin.
// Not thread-safe.
class ContextTrie {
 public:
  // Contexts of one order come ascending by their tokens; borrowed for the call.
  using Sink =
      std::function<absl::Status(std::span<const TokenId> context, const ContextValue& value)>;

  // `options` are valid.
  ContextTrie(const CountOptions& options, Sink sink);

  // Windows as WindowSink describes, of at most options.window() tokens.
  // Returns the sink's first error.
  absl::Status Add(std::span<const TokenId> window, uint64_t count);
  // Completes the contexts that are still open. No Add after it.
  absl::Status Finish();

 private:
  struct Level {
    uint64_t count = 0;
    // The best children so far, in the order that ContextValue promises.
    std::vector<Branch> best;
  };

  // Completes the nodes of the path below `depth`.
  absl::Status CloseTo(size_t depth);
  // Adds a completed child to `level`, which keeps at most `top`.
  static void Rank(Level& level, size_t top, const Branch& child);

  const CountOptions options_;
  const Sink sink_;
  std::vector<bool> is_order_;
  // levels_[d] is the node that path_[0..d) leads to; levels_[0], the root, is not used.
  std::vector<Level> levels_;
  std::vector<TokenId> path_;
  ContextValue value_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_CONTEXT_TRIE_H_
