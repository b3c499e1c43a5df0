#ifndef STRATA_SERVICES_DRAFT_CORPUS_SNAPSHOT_FORMAT_H_
#define STRATA_SERVICES_DRAFT_CORPUS_SNAPSHOT_FORMAT_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "common/base/draft_tree.h"
#include "services/draft/tiers/evidence.h"

// The bytes of a snapshot's keys and values. README.md beside this file is the specification; a
// change of either raises kFormatVersion.
//
// A context is written most recent token first here: its suffixes are then its prefixes, and the
// contexts form a trie in which the parent of a context is the context one token shorter.
namespace strata::draft {

inline constexpr int kFormatVersion = 2;
inline constexpr int64_t kMaxVocab = 1 << 24;  // a key holds a token in 3 bytes
// No count is larger.
inline constexpr uint64_t kMaxCount = uint64_t{1} << 48;
// Longest key in bytes.
inline constexpr size_t kMaxKeyBytes = 1 + 3 * kMaxContextOrder;

// Where the contexts one token longer are.
enum class Children : uint8_t {
  kNone = 0,    // there are none
  kInline = 1,  // in the same row, behind this context
  kRows = 2,    // each in a row of its own
};

struct RankedToken {
  TokenId token = 0;
  uint64_t count = 0;
};

// What a snapshot says of one context.
struct ContextNode {
  // How often the context occurred with a token after it: at least the sum of the counts.
  uint64_t total = 0;
  // By count, a tie to the lower token; distinct; 1 to kMaxContinuations, counts at least 1.
  std::array<RankedToken, kMaxContinuations> ranked;
  int size = 0;
  Children children = Children::kNone;

  std::span<const RankedToken> list() const { return {ranked.data(), static_cast<size_t>(size)}; }
};

// A context and, if node.children is kInline, those below it.
struct ContextTree {
  TokenId token = 0;  // the oldest one of the context; what leads here from the parent
  ContextNode node;
  std::vector<ContextTree> inline_children;  // by token
};

// Writes the key of the row that begins with `context` (1 to kMaxContextOrder tokens in [0,
// kMaxVocab), most recent first) and returns its length. Keys sort by order, then by tokens.
size_t EncodeKey(std::span<const TokenId> context, char* key);
std::string EncodeKey(std::span<const TokenId> context);
// The inverse. DATA_LOSS if `key` is no key or a token is not below vocab_size.
absl::Status DecodeKey(std::string_view key, int64_t vocab_size, std::vector<TokenId>& context);

// Appends the row of `tree` to `bytes`.
void EncodeRow(const ContextTree& tree, std::string& bytes);
// A bound on the bytes of one context in a row, without those below it; depends on `node` alone.
size_t EstimateBytes(const ContextNode& node);

// Walks a row from its first context to longer ones. The bytes may be anything: every step checks
// what it decodes. Borrows the bytes.
class RowWalker {
 public:
  RowWalker(std::string_view row, int64_t vocab_size) : rest_(row), vocab_size_(vocab_size) {}

  enum class Step { kFound, kAbsent, kDamaged };
  // Decodes the first context of the row. Call it first, and once.
  Step First() { return Decode() ? Step::kFound : Step::kDamaged; }
  // Moves to the context that is longer by `token`, if node().children is kInline. After anything
  // but kFound the walker is where it was, or useless if the row is damaged.
  Step Down(TokenId token);
  // The context where the walker is.
  const ContextNode& node() const { return node_; }

  // Gives `visit` each context of the row with the tokens from the row's first one down, parents
  // first, and checks everything; stops at the first error of `visit`. DATA_LOSS if anything is
  // wrong or left over.
  static absl::Status VisitAll(
      std::string_view row, int64_t vocab_size, int max_depth,
      absl::FunctionRef<absl::Status(std::span<const TokenId> below, const ContextNode&)> visit);

 private:
  // Decodes the node at the front of rest_; node_ holds its parent's, or nothing at the front.
  bool Decode();
  static absl::Status Visit(
      RowWalker walker, int depth_left, std::vector<TokenId>& below,
      absl::FunctionRef<absl::Status(std::span<const TokenId> below, const ContextNode&)> visit);

  std::string_view rest_;  // behind the current node: its table of children and they
  int64_t vocab_size_;
  ContextNode node_;
};

// The rows of a shard come in two groups, told apart by the first byte of the key. Windows: the key
// goes on with the context as above, without its length, so that keys sort as windows do; the value
// is all tokens that follow it, ascending, with counts. Counts: the key goes on with a token; the
// value is a varint, the occurrences of windows whose context begins with it.
inline constexpr int kShardWindows = 0;
inline constexpr int kShardCounts = 1;
std::string EncodeShardKey(std::span<const TokenId> context);
absl::Status DecodeShardKey(std::string_view key, int64_t vocab_size,
                            std::vector<TokenId>& context);
std::string EncodeShardCountKey(TokenId token);
absl::Status DecodeShardCountKey(std::string_view key, int64_t vocab_size, TokenId& token);
void EncodeShardValue(std::span<const RankedToken> next, std::string& bytes);
absl::Status DecodeShardValue(std::string_view bytes, int64_t vocab_size,
                              std::vector<RankedToken>& next);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_SNAPSHOT_FORMAT_H_
