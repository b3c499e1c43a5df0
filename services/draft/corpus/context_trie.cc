#include "services/draft/corpus/context_trie.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace strata::draft {

absl::Status ValidateCountOptions(const CountOptions& options) {
  if (options.orders.empty()) return absl::InvalidArgumentError("orders: at least one is needed");
  for (size_t i = 0; i < options.orders.size(); ++i) {
    const int order = options.orders[i];
    if (order < 1 || order > kMaxOrder) {
      return absl::InvalidArgumentError(
          absl::StrCat("orders: ", order, " is not in 1 to ", kMaxOrder));
    }
    if (i > 0 && order <= options.orders[i - 1]) {
      return absl::InvalidArgumentError("orders: must be ascending and distinct");
    }
  }
  if (options.top < 1 || options.top > kMaxTop) {
    return absl::InvalidArgumentError(
        absl::StrCat("top: ", options.top, " is not in 1 to ", kMaxTop));
  }
  if (options.depth < 1 || options.depth > kMaxDepth) {
    return absl::InvalidArgumentError(
        absl::StrCat("depth: ", options.depth, " is not in 1 to ", kMaxDepth));
  }
  if (options.prune_count < 1) {
    return absl::InvalidArgumentError("prune-count: must be at least 1");
  }
  return absl::OkStatus();
}

ContextTrie::ContextTrie(const CountOptions& options, Sink sink)
    : options_(options),
      sink_(std::move(sink)),
      is_order_(options.window() + 1, false),
      levels_(options.window() + 1) {
  for (int order : options_.orders) is_order_[order] = true;
}

void ContextTrie::Rank(Level& level, size_t top, const Branch& child) {
  // Children come by ascending token, so an equal count goes behind.
  const auto at = std::find_if(level.best.begin(), level.best.end(), [&](const Branch& other) {
    return other.counts[0] < child.counts[0];
  });
  if (level.best.size() < top) {
    level.best.insert(at, child);
  } else if (at != level.best.end()) {
    std::move_backward(at, level.best.end() - 1, level.best.end());
    *at = child;
  }
}

absl::Status ContextTrie::CloseTo(size_t depth) {
  while (path_.size() > depth) {
    const size_t d = path_.size();
    Level& level = levels_[d];
    Branch branch;
    branch.tokens[0] = path_.back();
    branch.counts[0] = level.count;
    branch.length = 1;
    if (!level.best.empty()) {
      const Branch& below = level.best.front();
      const int taken = std::min(below.length, options_.depth - 1);
      std::copy_n(below.tokens.begin(), taken, branch.tokens.begin() + 1);
      std::copy_n(below.counts.begin(), taken, branch.counts.begin() + 1);
      branch.length += taken;
    }
    if (is_order_[d] && level.count >= options_.prune_count && !level.best.empty()) {
      value_.total = level.count;
      value_.branches.swap(level.best);
      absl::Status status = sink_(path_, value_);
      value_.branches.swap(level.best);
      if (!status.ok()) return status;
    }
    level.count = 0;
    level.best.clear();
    path_.pop_back();
    if (d > 1) Rank(levels_[d - 1], is_order_[d - 1] ? options_.top : 1, branch);
  }
  return absl::OkStatus();
}

absl::Status ContextTrie::Add(std::span<const TokenId> window, uint64_t count) {
  const auto differ = std::mismatch(path_.begin(), path_.end(), window.begin(), window.end());
  absl::Status status = CloseTo(differ.first - path_.begin());
  if (!status.ok()) return status;
  path_.insert(path_.end(), differ.second, window.end());
  for (size_t d = 1; d <= path_.size(); ++d) levels_[d].count += count;
  return absl::OkStatus();
}

absl::Status ContextTrie::Finish() { return CloseTo(0); }

}  // namespace strata::draft
