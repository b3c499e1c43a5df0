#include "services/draft/corpus/snapshot_format.h"

#include "services/draft/corpus/varint.h"

namespace strata::draft {
namespace {

absl::Status Damaged(const char* what) {
  return absl::DataLossError(std::string("damaged value: ") + what);
}

// Reads one token id below vocab_size.
bool ReadToken(VarintReader& in, int64_t vocab_size, TokenId& token) {
  uint64_t raw;
  if (!in.Read(raw) || raw >= static_cast<uint64_t>(vocab_size)) return false;
  token = static_cast<TokenId>(raw);
  return true;
}

// Reads a count that is written as its distance below `above`; at least 1.
bool ReadCount(VarintReader& in, uint64_t above, uint64_t& count) {
  uint64_t below;
  if (!in.Read(below) || below >= above) return false;
  count = above - below;
  return true;
}

}  // namespace

void EncodeKey(std::span<const TokenId> context, std::string& key) {
  key.clear();
  key.push_back(static_cast<char>(context.size()));
  for (TokenId token : context) {
    key.push_back(static_cast<char>(token >> 16 & 0xff));
    key.push_back(static_cast<char>(token >> 8 & 0xff));
    key.push_back(static_cast<char>(token & 0xff));
  }
}

absl::Status DecodeKey(std::string_view key, int64_t vocab_size, std::vector<TokenId>& context) {
  context.clear();
  const auto byte = [key](size_t i) { return static_cast<TokenId>(static_cast<uint8_t>(key[i])); };
  if (key.empty() || byte(0) < 1 || byte(0) > kMaxOrder ||
      key.size() != 1 + 3 * static_cast<size_t>(byte(0))) {
    return absl::DataLossError("damaged key: its length does not fit its order");
  }
  for (size_t i = 1; i < key.size(); i += 3) {
    const TokenId token = byte(i) << 16 | byte(i + 1) << 8 | byte(i + 2);
    if (token >= vocab_size) return absl::DataLossError("damaged key: token out of range");
    context.push_back(token);
  }
  return absl::OkStatus();
}

void EncodeValue(const ContextValue& value, std::string& bytes) {
  bytes.clear();
  AppendVarint(value.total, bytes);
  AppendVarint(value.branches.size(), bytes);
  uint64_t above = value.total;
  for (const Branch& branch : value.branches) {
    AppendVarint(static_cast<uint64_t>(branch.tokens[0]), bytes);
    AppendVarint(above - branch.counts[0], bytes);
    above = branch.counts[0];
    // Below a token seen once every count is 1: one bit says so for all of them.
    const bool level = branch.counts[branch.length - 1] == branch.counts[0];
    AppendVarint(static_cast<uint64_t>(branch.length - 1) << 1 | (level ? 1 : 0), bytes);
    for (int i = 1; i < branch.length; ++i) {
      AppendVarint(static_cast<uint64_t>(branch.tokens[i]), bytes);
      if (!level) AppendVarint(branch.counts[i - 1] - branch.counts[i], bytes);
    }
  }
}

absl::Status DecodeValue(std::string_view bytes, int64_t vocab_size, ContextValue& value) {
  VarintReader in(bytes);
  uint64_t size;
  if (!in.Read(value.total) || value.total == 0) return Damaged("total");
  if (!in.Read(size) || size < 1 || size > kMaxTop) return Damaged("number of continuations");
  value.branches.resize(size);
  uint64_t above = value.total;
  uint64_t rest = value.total;
  for (size_t b = 0; b < size; ++b) {
    Branch& branch = value.branches[b];
    if (!ReadToken(in, vocab_size, branch.tokens[0])) return Damaged("token");
    if (!ReadCount(in, above, branch.counts[0]) || branch.counts[0] > rest) return Damaged("count");
    above = branch.counts[0];
    rest -= branch.counts[0];
    for (size_t earlier = 0; earlier < b; ++earlier) {
      if (value.branches[earlier].tokens[0] == branch.tokens[0]) return Damaged("token twice");
    }
    if (b > 0 && value.branches[b - 1].counts[0] == branch.counts[0] &&
        value.branches[b - 1].tokens[0] > branch.tokens[0]) {
      return Damaged("order of continuations");
    }
    uint64_t head;
    if (!in.Read(head) || head >> 1 >= kMaxDepth) return Damaged("length of a continuation");
    branch.length = static_cast<int>(head >> 1) + 1;
    const bool level = (head & 1) != 0;
    for (int i = 1; i < branch.length; ++i) {
      if (!ReadToken(in, vocab_size, branch.tokens[i])) return Damaged("token");
      branch.counts[i] = branch.counts[i - 1];
      if (!level && !ReadCount(in, branch.counts[i - 1], branch.counts[i])) return Damaged("count");
    }
  }
  if (!in.done()) return Damaged("bytes after its end");
  return absl::OkStatus();
}

}  // namespace strata::draft
