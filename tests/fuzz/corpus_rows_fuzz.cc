// What a snapshot's files hold, behind all checksums, as any bytes: manifests, keys, rows, and
// queries answered from rows. The last byte of the input says which.

#include <fuzzer/FuzzedDataProvider.h>
#include <rocksdb/utilities/stackable_db.h>

#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "services/draft/corpus/corpus_matcher.h"
#include "services/draft/corpus/manifest.h"
#include "services/draft/corpus/snapshot_format.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_seed.h"

namespace strata::draft {
namespace {

constexpr int64_t kVocab = 100;
// Few, so that a query meets the rows.
constexpr TokenId kMatchedVocab = 8;
constexpr int kLongestRowKey = 3;

enum Kind : uint8_t { kManifest = 0, kKeys = 1, kRow = 2, kMatcher = 3 };

void CheckNode(const ContextNode& node, int64_t vocab) {
  FUZZ_CHECK(node.size >= 1 && node.size <= kMaxContinuations);
  uint64_t sum = 0;
  for (const RankedToken& ranked : node.list()) {
    FUZZ_CHECK(ranked.token >= 0 && ranked.token < vocab && ranked.count >= 1);
    sum += ranked.count;
  }
  FUZZ_CHECK(sum <= node.total);
}

void FuzzManifest(const std::string& text) {
  const auto manifest = ParseManifest(text);
  if (!manifest.ok()) return;
  const std::string written = ManifestToJson(*manifest);
  const auto again = ParseManifest(written);
  FUZZ_CHECK(again.ok());
  FUZZ_CHECK(ManifestToJson(*again) == written);
}

void FuzzKeys(const std::string& bytes) {
  std::vector<TokenId> context;
  if (DecodeKey(bytes, kVocab, context).ok()) FUZZ_CHECK(EncodeKey(context) == bytes);
  if (DecodeShardKey(bytes, kVocab, context).ok()) FUZZ_CHECK(EncodeShardKey(context) == bytes);
  TokenId token = 0;
  if (DecodeShardCountKey(bytes, kVocab, token).ok()) {
    FUZZ_CHECK(EncodeShardCountKey(token) == bytes);
  }
  std::vector<RankedToken> next;
  if (DecodeShardValue(bytes, kVocab, next).ok()) {
    FUZZ_CHECK(!next.empty());
    for (const RankedToken& ranked : next) {
      FUZZ_CHECK(ranked.token >= 0 && ranked.token < kVocab && ranked.count >= 1);
    }
  }
}

absl::Status ReadTree(const std::string& row, int64_t vocab, ContextTree& tree) {
  return RowWalker::VisitAll(row, vocab, kMaxContextOrder - 1,
                             [&](std::span<const TokenId> below, const ContextNode& node) {
                               FUZZ_CHECK(below.size() < static_cast<size_t>(kMaxContextOrder));
                               CheckNode(node, vocab);
                               // Parents come first and the order is depth first: all but the last
                               // token lead to the newest context of their length.
                               ContextTree* at = &tree;
                               for (size_t depth = 0; depth < below.size(); ++depth) {
                                 if (depth + 1 == below.size())
                                   at->inline_children.emplace_back().token = below[depth];
                                 at = &at->inline_children.back();
                                 FUZZ_CHECK(at->token == below[depth]);
                               }
                               at->node = node;
                               return absl::OkStatus();
                             });
}

void FuzzRow(FuzzedDataProvider& data) {
  const int64_t vocab = data.ConsumeIntegralInRange<int64_t>(1, 300);
  const std::string path = data.ConsumeRandomLengthString(kMaxContextOrder);
  const std::string row = data.ConsumeRemainingBytesAsString();
  ContextTree tree;
  const absl::Status whole = ReadTree(row, vocab, tree);
  if (whole.ok()) {
    // Numbers may be written in more bytes than they need, so only what is told stays the same.
    std::string written, again;
    EncodeRow(tree, written);
    ContextTree read;
    FUZZ_CHECK(ReadTree(written, vocab, read).ok());
    EncodeRow(read, again);
    FUZZ_CHECK(again == written);
  }
  RowWalker walker(row, vocab);
  if (walker.First() != RowWalker::Step::kFound) {
    FUZZ_CHECK(!whole.ok());
    return;
  }
  for (const char token : path) {
    CheckNode(walker.node(), vocab);
    if (walker.node().children != Children::kInline) break;
    const RowWalker::Step step = walker.Down(static_cast<uint8_t>(token));
    FUZZ_CHECK(step != RowWalker::Step::kDamaged || !whole.ok());
    if (step != RowWalker::Step::kFound) break;
  }
}

// What CorpusMatcher reads of a database, from a map.
class RowMap final : public rocksdb::StackableDB {
 public:
  RowMap() : StackableDB(static_cast<rocksdb::DB*>(nullptr)) {}

  void Set(const std::string& key, const std::string& row) { rows_[key] = row; }

  rocksdb::ColumnFamilyHandle* DefaultColumnFamily() const override { return nullptr; }
  using StackableDB::Get;
  rocksdb::Status Get(const rocksdb::ReadOptions&, rocksdb::ColumnFamilyHandle*,
                      const rocksdb::Slice& key, rocksdb::PinnableSlice* value) override {
    const auto row = rows_.find(key.ToString());
    if (row == rows_.end()) return rocksdb::Status::NotFound();
    value->PinSelf(row->second);
    return rocksdb::Status::OK();
  }

 private:
  std::map<std::string, std::string> rows_;
};

void CheckAnswer(const Evidence& evidence, int longest, int levels) {
  FUZZ_CHECK(evidence.levels >= 0 && evidence.levels <= levels);
  for (int i = 0; i < evidence.levels; ++i) {
    const ContextCounts& counts = evidence.level[i];
    // The longest first, each one token shorter than the one before.
    FUZZ_CHECK(counts.order >= 1 && counts.order <= longest);
    FUZZ_CHECK(i == 0 || counts.order + 1 == evidence.level[i - 1].order);
    FUZZ_CHECK(counts.size >= 1 && counts.size <= kMaxContinuations);
    uint64_t sum = 0;
    for (const Continuation& next : counts.list()) {
      FUZZ_CHECK(next.token >= 0 && next.token < kMatchedVocab && next.count >= 1);
      sum += next.count;
    }
    // Counts end at the largest 32-bit number, each by itself.
    FUZZ_CHECK(sum <= counts.total || counts.total == std::numeric_limits<uint32_t>::max());
  }
}

std::vector<TokenId> ConsumeContext(FuzzedDataProvider& data, int longest, TokenId vocab) {
  std::vector<TokenId> context(data.ConsumeIntegralInRange<size_t>(1, longest));
  for (TokenId& token : context) token = data.ConsumeIntegralInRange<TokenId>(0, vocab - 1);
  return context;
}

void FuzzMatcher(FuzzedDataProvider& data) {
  RowMap rows;
  for (int i = data.ConsumeIntegralInRange<int>(1, 12); i > 0; --i) {
    const std::string key = EncodeKey(ConsumeContext(data, kLongestRowKey, kMatchedVocab));
    rows.Set(key, data.ConsumeRandomLengthString());
  }
  // None, one that forgets, one that holds all.
  ContextCache cache(data.PickValueInArray<size_t>({0, 4 << 10, 64 << 10}));
  const int max_order = data.ConsumeIntegralInRange<int>(1, kMaxContextOrder);
  CorpusMatcher matcher(&rows, &cache, 1, kMatchedVocab, max_order);
  std::vector<ContextTail> tails;
  // Tokens beyond the snapshot's vocabulary too: a verifier's may be larger.
  for (int i = data.ConsumeIntegralInRange<int>(1, 20); i > 0; --i) {
    tails.emplace_back(ConsumeContext(data, 2 * kMaxContextOrder, kMatchedVocab + 1));
  }
  const int levels = data.ConsumeIntegralInRange<int>(1, kMaxLevels);
  std::vector<MatchQuery> queries;
  for (const ContextTail& tail : tails) queries.push_back({&tail, kMaxContextOrder});
  std::vector<Evidence> answers(queries.size());
  // The second time the cache knows what there is, and what it made of damaged rows.
  for (int round = 0; round < 2; ++round) {
    matcher.Match(queries, levels, answers);
    for (const Evidence& evidence : answers) CheckAnswer(evidence, max_order, levels);
    matcher.Match({queries.data(), 1}, levels, answers);
    CheckAnswer(answers[0], max_order, levels);
  }
}

std::vector<std::string> Seeds() {
  Manifest manifest;
  manifest.tokenizer_fingerprint = std::string(32, 'f');
  manifest.vocab_size = kVocab;
  manifest.contexts.assign(static_cast<size_t>(manifest.options.max_order), 1);
  manifest.files.push_back({"rocksdb/000009.sst", 1234, std::string(32, '0')});

  ContextTree tree;
  tree.token = 3;
  tree.node.total = 300;
  tree.node.size = 2;
  tree.node.ranked[0] = {7, 200};
  tree.node.ranked[1] = {5, 5};
  ContextTree child = tree;
  tree.node.children = Children::kInline;
  child.token = 4;
  child.node.children = Children::kRows;
  tree.inline_children = {child, child};
  tree.inline_children[1].token = 6;
  std::string row, leaf;
  EncodeRow(tree, row);
  child.node.children = Children::kNone;
  EncodeRow(child, leaf);

  using strata::fuzz::SeedWriter;
  SeedWriter one_row;
  one_row.Byte(kRow).Number(99, 1, 300).Text("\x04").Bytes(row);
  // The contexts 3; 4 3 and 6 3 in its row; 5 4 3 in a row of its own. Keys have the newest first.
  SeedWriter matcher;
  const auto context = [&](std::vector<TokenId> tokens, int longest, TokenId vocab) {
    matcher.Number(tokens.size(), 1, static_cast<uint64_t>(longest));
    for (const TokenId token : tokens) {
      matcher.Number(static_cast<uint64_t>(token), 0, static_cast<uint64_t>(vocab - 1));
    }
  };
  matcher.Byte(kMatcher).Number(2, 1, 12);
  context({3}, kLongestRowKey, kMatchedVocab);
  matcher.Text(row);
  context({3, 4, 5}, kLongestRowKey, kMatchedVocab);
  matcher.Text(leaf).Number(2, 0, 2).Number(kMaxContextOrder, 1, kMaxContextOrder);
  matcher.Number(3, 1, 20);
  context({1, 5, 4, 3}, 2 * kMaxContextOrder, kMatchedVocab + 1);
  context({6, 3}, 2 * kMaxContextOrder, kMatchedVocab + 1);
  context({3}, 2 * kMaxContextOrder, kMatchedVocab + 1);
  matcher.Number(kMaxLevels, 1, kMaxLevels);
  return {SeedWriter().Byte(kManifest).Bytes(ManifestToJson(manifest)).Finish(),
          SeedWriter().Byte(kKeys).Bytes(EncodeKey(std::vector<TokenId>{5, 6})).Finish(),
          SeedWriter().Byte(kKeys).Bytes(EncodeShardKey(std::vector<TokenId>{5, 6})).Finish(),
          one_row.Finish(), matcher.Finish()};
}

}  // namespace
}  // namespace strata::draft

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  strata::fuzz::WriteSeeds(*argc, *argv, strata::draft::Seeds());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace strata::draft;
  FuzzedDataProvider data(bytes, size);
  switch (data.ConsumeIntegral<uint8_t>() % 4) {
    case kManifest:
      FuzzManifest(data.ConsumeRemainingBytesAsString());
      break;
    case kKeys:
      FuzzKeys(data.ConsumeRemainingBytesAsString());
      break;
    case kRow:
      FuzzRow(data);
      break;
    default:
      FuzzMatcher(data);
  }
  return 0;
}
