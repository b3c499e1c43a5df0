#include "services/draft/corpus/snapshot_format.h"

#include <algorithm>

#include "services/draft/corpus/varint.h"

namespace strata::draft {
namespace {

// The head of a node: children in bits 0 and 1, then these, then the number of continuations - 1.
constexpr uint64_t kChildrenMask = 3;
constexpr uint64_t kAllTold = 4;     // the counts told sum up to the total
constexpr uint64_t kLikeParent = 8;  // the tokens are the first ones of the parent's
constexpr int kSizeShift = 4;

absl::Status Damaged(const char* what) {
  return absl::DataLossError(std::string("damaged value: ") + what);
}

void AppendToken(TokenId token, std::string& key) {
  key.push_back(static_cast<char>(token >> 16 & 0xff));
  key.push_back(static_cast<char>(token >> 8 & 0xff));
  key.push_back(static_cast<char>(token & 0xff));
}

absl::Status DecodeTokens(std::string_view bytes, int64_t vocab_size,
                          std::vector<TokenId>& context) {
  const auto byte = [&](size_t i) { return static_cast<TokenId>(static_cast<uint8_t>(bytes[i])); };
  context.clear();
  if (bytes.empty() || bytes.size() % 3 != 0 || bytes.size() > 3 * kMaxContextOrder) {
    return absl::DataLossError("damaged key: its length does not fit its order");
  }
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const TokenId token = byte(i) << 16 | byte(i + 1) << 8 | byte(i + 2);
    if (token >= vocab_size) return absl::DataLossError("damaged key: token out of range");
    context.push_back(token);
  }
  return absl::OkStatus();
}

bool IsLikeParent(const ContextNode& node, const ContextNode& parent) {
  return node.size <= parent.size &&
         std::equal(node.list().begin(), node.list().end(), parent.list().begin(),
                    [](const RankedToken& a, const RankedToken& b) { return a.token == b.token; });
}

// `parent` is an empty node at the front of a row.
void EncodeNode(const ContextTree& tree, const ContextNode& parent, std::string& bytes) {
  const ContextNode& node = tree.node;
  uint64_t told = 0;
  for (const RankedToken& next : node.list()) told += next.count;
  const bool like_parent = IsLikeParent(node, parent);
  AppendVarint(static_cast<uint64_t>(node.size - 1) << kSizeShift |
                   (like_parent ? kLikeParent : 0) | (told == node.total ? kAllTold : 0) |
                   static_cast<uint64_t>(node.children),
               bytes);
  // From the least to the most frequent, so that each is written as what it has more.
  uint64_t less = 1;
  for (int i = node.size; i-- > 0;) {
    AppendVarint(node.ranked[i].count - less, bytes);
    less = node.ranked[i].count;
  }
  if (told != node.total) AppendVarint(node.total - told - 1, bytes);
  if (!like_parent) {
    for (const RankedToken& next : node.list()) {
      const auto at =
          std::find_if(parent.list().begin(), parent.list().end(),
                       [&](const RankedToken& candidate) { return candidate.token == next.token; });
      const bool known = at != parent.list().end();
      AppendVarint(known ? static_cast<uint64_t>(at - parent.list().begin())
                         : static_cast<uint64_t>(parent.size) + static_cast<uint64_t>(next.token),
                   bytes);
    }
  }
  if (node.children != Children::kInline) return;
  AppendVarint(tree.inline_children.size(), bytes);
  std::string below;
  TokenId lowest = 0;
  for (const ContextTree& child : tree.inline_children) {
    const size_t begin = below.size();
    EncodeNode(child, node, below);
    AppendVarint(static_cast<uint64_t>(child.token - lowest), bytes);
    AppendVarint(below.size() - begin, bytes);
    lowest = child.token + 1;
  }
  bytes.append(below);
}

}  // namespace

size_t EncodeKey(std::span<const TokenId> context, char* key) {
  char* at = key;
  *at++ = static_cast<char>(context.size());
  for (TokenId token : context) {
    *at++ = static_cast<char>(token >> 16 & 0xff);
    *at++ = static_cast<char>(token >> 8 & 0xff);
    *at++ = static_cast<char>(token & 0xff);
  }
  return static_cast<size_t>(at - key);
}

std::string EncodeKey(std::span<const TokenId> context) {
  std::string key(kMaxKeyBytes, '\0');
  key.resize(EncodeKey(context, key.data()));
  return key;
}

absl::Status DecodeKey(std::string_view key, int64_t vocab_size, std::vector<TokenId>& context) {
  if (key.empty() || key.size() != 1 + 3 * static_cast<size_t>(static_cast<uint8_t>(key[0]))) {
    context.clear();
    return absl::DataLossError("damaged key: its length does not fit its order");
  }
  return DecodeTokens(key.substr(1), vocab_size, context);
}

void EncodeRow(const ContextTree& tree, std::string& bytes) {
  EncodeNode(tree, ContextNode(), bytes);
}

size_t EstimateBytes(const ContextNode& node) {
  // Token and size in the parent's table, head, counts and tokens.
  return 5 + 3 * static_cast<size_t>(node.size);
}

bool RowWalker::Decode() {
  VarintReader in(rest_);
  uint64_t head;
  if (!in.Read(head)) return false;
  const uint64_t children = head & kChildrenMask;
  const uint64_t size = (head >> kSizeShift) + 1;
  if (children > 2 || size > kMaxContinuations) return false;
  const bool like_parent = (head & kLikeParent) != 0;
  const uint64_t inherited = static_cast<uint64_t>(node_.size);
  if (like_parent && size > inherited) return false;
  std::array<uint64_t, kMaxContinuations> counts;
  uint64_t count = 1, told = 0;
  for (uint64_t i = size; i-- > 0;) {
    uint64_t more;
    if (!in.Read(more) || more > kMaxCount) return false;
    count += more;
    if (count > kMaxCount) return false;
    counts[i] = count;
    told += count;
  }
  uint64_t untold = 0;
  if ((head & kAllTold) == 0 && (!in.Read(untold) || untold++ > kMaxCount)) return false;
  std::array<RankedToken, kMaxContinuations> ranked;
  for (uint64_t i = 0; i < size; ++i) {
    uint64_t code = i;
    if (!like_parent && !in.Read(code)) return false;
    if (code < inherited) {
      ranked[i].token = node_.ranked[code].token;
    } else if (code - inherited < static_cast<uint64_t>(vocab_size_)) {
      ranked[i].token = static_cast<TokenId>(code - inherited);
    } else {
      return false;
    }
    ranked[i].count = counts[i];
    for (uint64_t before = 0; before < i; ++before) {
      if (ranked[before].token == ranked[i].token) return false;
    }
    if (i > 0 && counts[i - 1] == counts[i] && ranked[i - 1].token > ranked[i].token) return false;
  }
  node_.total = told + untold;
  if (node_.total > kMaxCount) return false;
  node_.size = static_cast<int>(size);
  std::copy_n(ranked.begin(), size, node_.ranked.begin());
  node_.children = static_cast<Children>(children);
  rest_.remove_prefix(in.position());
  return true;
}

RowWalker::Step RowWalker::Down(TokenId token) {
  if (node_.children != Children::kInline) return Step::kAbsent;
  VarintReader in(rest_);
  uint64_t number;
  if (!in.Read(number)) return Step::kDamaged;
  uint64_t at = 0, offset = 0, found_offset = 0, found_size = 0;
  bool found = false;
  for (uint64_t i = 0; i < number; ++i) {
    uint64_t delta, size;
    if (!in.Read(delta) || !in.Read(size) || delta > static_cast<uint64_t>(kMaxVocab) ||
        size > rest_.size()) {
      return Step::kDamaged;
    }
    at += delta;
    if (!found) {
      if (at > static_cast<uint64_t>(token)) return Step::kAbsent;
      found = at == static_cast<uint64_t>(token);
      if (found) {
        found_offset = offset;
        found_size = size;
      }
    }
    offset += size;
    ++at;
  }
  if (!found) return Step::kAbsent;
  if (offset != rest_.size() - in.position()) return Step::kDamaged;
  rest_ = rest_.substr(in.position() + found_offset, found_size);
  return Decode() ? Step::kFound : Step::kDamaged;
}

absl::Status RowWalker::VisitAll(
    std::string_view row, int64_t vocab_size, int max_depth,
    absl::FunctionRef<absl::Status(std::span<const TokenId>, const ContextNode&)> visit) {
  RowWalker walker(row, vocab_size);
  if (walker.First() != Step::kFound) return Damaged("its first context");
  std::vector<TokenId> below;
  return Visit(walker, max_depth, below, visit);
}

absl::Status RowWalker::Visit(
    RowWalker walker, int depth_left, std::vector<TokenId>& below,
    absl::FunctionRef<absl::Status(std::span<const TokenId>, const ContextNode&)> visit) {
  absl::Status status = visit(below, walker.node_);
  if (!status.ok()) return status;
  if (walker.node_.children != Children::kInline) {
    return walker.rest_.empty() ? absl::OkStatus() : Damaged("bytes after its end");
  }
  if (depth_left == 0) return Damaged("a context longer than the longest");
  VarintReader in(walker.rest_);
  uint64_t number, at = 0;
  if (!in.Read(number) || number == 0 || number > walker.rest_.size()) {
    return Damaged("number of longer contexts");
  }
  std::vector<std::pair<TokenId, uint64_t>> table;
  for (uint64_t i = 0; i < number; ++i) {
    uint64_t delta, size;
    if (!in.Read(delta) || !in.Read(size) || delta > static_cast<uint64_t>(kMaxVocab)) {
      return Damaged("table of longer contexts");
    }
    at += delta;
    if (at >= static_cast<uint64_t>(walker.vocab_size_)) return Damaged("token");
    table.emplace_back(static_cast<TokenId>(at++), size);
  }
  std::string_view rest = walker.rest_.substr(in.position());
  for (const auto& [token, size] : table) {
    if (size > rest.size()) return Damaged("size of a longer context");
    RowWalker child = walker;
    child.rest_ = rest.substr(0, size);
    if (!child.Decode()) return Damaged("a longer context");
    below.push_back(token);
    status = Visit(child, depth_left - 1, below, visit);
    below.pop_back();
    if (!status.ok()) return status;
    rest.remove_prefix(size);
  }
  return rest.empty() ? absl::OkStatus() : Damaged("bytes after its end");
}

std::string EncodeShardKey(std::span<const TokenId> context) {
  std::string key(1, static_cast<char>(kShardWindows));
  for (TokenId token : context) AppendToken(token, key);
  return key;
}

absl::Status DecodeShardKey(std::string_view key, int64_t vocab_size,
                            std::vector<TokenId>& context) {
  if (key.empty() || key[0] != kShardWindows) return absl::DataLossError("damaged key: its group");
  return DecodeTokens(key.substr(1), vocab_size, context);
}

std::string EncodeShardCountKey(TokenId token) {
  std::string key(1, static_cast<char>(kShardCounts));
  AppendToken(token, key);
  return key;
}

absl::Status DecodeShardCountKey(std::string_view key, int64_t vocab_size, TokenId& token) {
  std::vector<TokenId> tokens;
  if (key.size() != 4 || key[0] != kShardCounts) {
    return absl::DataLossError("damaged key: its group");
  }
  absl::Status status = DecodeTokens(key.substr(1), vocab_size, tokens);
  if (status.ok()) token = tokens[0];
  return status;
}

void EncodeShardValue(std::span<const RankedToken> next, std::string& bytes) {
  bytes.clear();
  TokenId lowest = 0;
  for (const RankedToken& entry : next) {
    AppendVarint(static_cast<uint64_t>(entry.token - lowest), bytes);
    AppendVarint(entry.count - 1, bytes);
    lowest = entry.token + 1;
  }
}

absl::Status DecodeShardValue(std::string_view bytes, int64_t vocab_size,
                              std::vector<RankedToken>& next) {
  next.clear();
  if (bytes.empty()) return Damaged("no continuation");
  VarintReader in(bytes);
  uint64_t at = 0;
  while (!in.done()) {
    uint64_t delta, less;
    if (!in.Read(delta) || !in.Read(less) || delta > static_cast<uint64_t>(kMaxVocab) ||
        less >= kMaxCount) {
      return Damaged("continuation");
    }
    at += delta;
    if (at >= static_cast<uint64_t>(vocab_size)) return Damaged("token");
    next.push_back({static_cast<TokenId>(at++), less + 1});
  }
  return absl::OkStatus();
}

}  // namespace strata::draft
