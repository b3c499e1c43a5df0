#ifndef STRATA_SERVICES_DRAFT_CORPUS_WINDOWS_H_
#define STRATA_SERVICES_DRAFT_CORPUS_WINDOWS_H_

#include <algorithm>
#include <compare>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "common/base/draft_tree.h"

namespace strata::draft {

// The unit of counting: the tokens before a token of a document, and that token. Windows sort by
// context (a shorter one before what begins with it), then by the next token.
struct Window {
  // Most recent first: the longest that the order allows, less at the document's beginning; at
  // least one token. Borrowed.
  std::span<const TokenId> context;
  TokenId next = 0;
  // How often it occurred; at least 1.
  uint64_t count = 0;
};

inline bool SameWindow(const Window& a, const Window& b) {
  return a.next == b.next && std::ranges::equal(a.context, b.context);
}

inline bool WindowBefore(const Window& a, const Window& b) {
  const auto order = std::lexicographical_compare_three_way(a.context.begin(), a.context.end(),
                                                            b.context.begin(), b.context.end());
  return std::is_neq(order) ? std::is_lt(order) : a.next < b.next;
}

// Receives distinct windows, ascending. Borrowed for the call.
using WindowSink = absl::FunctionRef<absl::Status(const Window& window)>;

// Reads distinct windows, ascending.
class WindowCursor {
 public:
  virtual ~WindowCursor() = default;
  // Moves to the first or next window, or to the end.
  virtual absl::Status Next() = 0;
  virtual bool done() const = 0;
  // Where the cursor is; valid until Next.
  virtual Window window() const = 0;
};

// Gives each distinct window of all cursors once, ascending, with the sum of its counts.
absl::Status MergeWindows(const std::vector<std::unique_ptr<WindowCursor>>& cursors,
                          WindowSink sink);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_WINDOWS_H_
