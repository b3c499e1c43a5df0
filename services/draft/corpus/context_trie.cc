#include "services/draft/corpus/context_trie.h"

#include <algorithm>
#include <utility>

namespace strata::draft {
namespace {

// Orders by token and adds up repetitions.
void Combine(std::vector<RankedToken>& next) {
  if (next.size() < 2) return;
  std::sort(next.begin(), next.end(),
            [](const RankedToken& a, const RankedToken& b) { return a.token < b.token; });
  size_t last = 0;
  for (size_t i = 1; i < next.size(); ++i) {
    if (next[i].token == next[last].token) {
      next[last].count += next[i].count;
    } else {
      next[++last] = next[i];
    }
  }
  next.resize(last + 1);
}

bool RanksBefore(const RankedToken& a, const RankedToken& b) {
  return a.count != b.count ? a.count > b.count : a.token < b.token;
}

}  // namespace

ContextTrie::ContextTrie(const CountOptions& options, Sink sink)
    : options_(options),
      sink_(std::move(sink)),
      levels_(static_cast<size_t>(options.max_order) + 1) {}

bool ContextTrie::Rank(const std::vector<RankedToken>& next, int order, ContextNode& node) const {
  const uint64_t least = order == 1 ? 1 : options_.prune_continuations;
  node.total = 0;
  node.size = 0;
  for (const RankedToken& entry : next) {
    node.total += entry.count;
    if (entry.count < least) continue;
    if (node.size == options_.top && !RanksBefore(entry, node.ranked[node.size - 1])) continue;
    // Insertion into the few that are kept.
    int at = node.size < options_.top ? node.size++ : node.size - 1;
    for (; at > 0 && RanksBefore(entry, node.ranked[at - 1]); --at) {
      node.ranked[at] = node.ranked[at - 1];
    }
    node.ranked[at] = entry;
  }
  return node.size > 0 && (order == 1 || node.total >= options_.prune_count);
}

absl::Status ContextTrie::EmitRow(std::span<const TokenId> parent, const ContextTree& tree) {
  std::array<TokenId, kMaxContextOrder> context;
  std::copy(parent.begin(), parent.end(), context.begin());
  context[parent.size()] = tree.token;
  row_.clear();
  EncodeRow(tree, row_);
  return sink_({context.data(), parent.size() + 1}, row_);
}

absl::Status ContextTrie::Adopt(size_t depth, ContextTree child, size_t bytes) {
  const std::span<const TokenId> context(path_.data(), depth);
  if (depth == 0 || levels_[depth].children_have_rows) return EmitRow(context, child);
  Level& level = levels_[depth];
  level.children.push_back(std::move(child));
  level.children_bytes += bytes;
  if (level.children_bytes <= kRowBytes) return absl::OkStatus();
  level.children_have_rows = true;
  for (const ContextTree& settled : level.children) {
    absl::Status status = EmitRow(context, settled);
    if (!status.ok()) return status;
  }
  level.children.clear();
  return absl::OkStatus();
}

absl::Status ContextTrie::CloseTo(size_t depth) {
  while (path_.size() > depth) {
    const size_t d = path_.size();
    Level& level = levels_[d];
    Combine(level.next);
    if (d > 1) {
      Level& parent = levels_[d - 1];
      parent.next.insert(parent.next.end(), level.next.begin(), level.next.end());
      if (parent.next.size() > parent.combine_at) {
        Combine(parent.next);
        parent.combine_at = 2 * parent.next.size() + kCombineAt;
      }
    }
    ContextTree tree;
    const bool kept = Rank(level.next, static_cast<int>(d), tree.node);
    if (kept) {
      tree.token = path_.back();
      tree.node.children = level.children_have_rows ? Children::kRows
                           : level.children.empty() ? Children::kNone
                                                    : Children::kInline;
      tree.inline_children = std::move(level.children);
      ++contexts_[d];
    }
    const size_t bytes = EstimateBytes(tree.node) + level.children_bytes;
    level.next.clear();
    level.combine_at = kCombineAt;
    level.children.clear();
    // A row of its own takes nothing from the row of the parent's; its first context still does.
    const size_t adopted = level.children_have_rows ? EstimateBytes(tree.node) : bytes;
    level.children_bytes = 0;
    level.children_have_rows = false;
    path_.pop_back();
    if (!kept) continue;
    absl::Status status = Adopt(d - 1, std::move(tree), adopted);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status ContextTrie::Add(const Window& window) {
  const std::span<const TokenId> context = window.context;
  const auto differ = std::mismatch(path_.begin(), path_.end(), context.begin(), context.end());
  absl::Status status = CloseTo(static_cast<size_t>(differ.first - path_.begin()));
  if (!status.ok()) return status;
  path_.insert(path_.end(), differ.second, context.end());
  levels_[path_.size()].next.push_back({window.next, window.count});
  return absl::OkStatus();
}

absl::Status ContextTrie::Finish() { return CloseTo(0); }

}  // namespace strata::draft
