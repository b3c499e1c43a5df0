#include "services/draft/corpus/snapshot_format.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "services/draft/corpus/varint.h"
#include "tests/corpus/corpus_testing.h"

namespace strata::draft {
namespace {

using testing::Tokens;

uint64_t Below(std::mt19937_64& random, uint64_t n) { return random() % n; }

ContextNode RandomNode(std::mt19937_64& random, int64_t vocab_size) {
  ContextNode node;
  node.size = 1 + static_cast<int>(Below(random, kMaxContinuations));
  uint64_t count = 1 + Below(random, uint64_t{1} << Below(random, 40));
  std::set<TokenId> used;
  for (int i = 0; i < node.size; ++i) {
    TokenId token;
    do {
      token = static_cast<TokenId>(
          Below(random, i % 2 ? vocab_size : std::min<int64_t>(20, vocab_size)));
    } while (!used.insert(token).second);
    if (i > 0 && node.ranked[i - 1].count == count && node.ranked[i - 1].token > token) {
      if (count == 1) {
        node.size = i;
        break;
      }
      --count;
    }
    node.ranked[i] = {token, count};
    node.total += count;
    if (Below(random, 2) == 0) count = 1 + count / 3;
  }
  if (Below(random, 2) == 0) node.total += Below(random, 100);
  return node;
}

ContextTree RandomTree(std::mt19937_64& random, int64_t vocab_size, int depth) {
  ContextTree tree;
  tree.node = RandomNode(random, vocab_size);
  const uint64_t children = depth == 0 ? 0 : Below(random, 4);
  TokenId token = static_cast<TokenId>(Below(random, 3));
  for (uint64_t i = 0; i < children && token < vocab_size; ++i) {
    tree.inline_children.push_back(RandomTree(random, vocab_size, depth - 1));
    tree.inline_children.back().token = token;
    token += 1 + static_cast<TokenId>(Below(random, vocab_size));
  }
  if (!tree.inline_children.empty()) {
    tree.node.children = Children::kInline;
  } else if (Below(random, 4) == 0) {
    tree.node.children = Children::kRows;
  }
  return tree;
}

std::string ToString(const ContextNode& node) {
  std::string out =
      std::to_string(node.total) + "/" + std::to_string(static_cast<int>(node.children));
  for (const RankedToken& next : node.list()) {
    out += " " + std::to_string(next.token) + ":" + std::to_string(next.count);
  }
  return out;
}

void Collect(const ContextTree& tree, Tokens& below, std::map<Tokens, std::string>& out) {
  out[below] = ToString(tree.node);
  for (const ContextTree& child : tree.inline_children) {
    below.push_back(child.token);
    Collect(child, below, out);
    below.pop_back();
  }
}

absl::Status VisitInto(std::string_view row, int64_t vocab_size,
                       std::map<Tokens, std::string>& out) {
  return RowWalker::VisitAll(row, vocab_size, 5,
                             [&](std::span<const TokenId> below, const ContextNode& node) {
                               out[Tokens(below.begin(), below.end())] = ToString(node);
                               return absl::OkStatus();
                             });
}

TEST(SnapshotFormat, KeysRoundTripAndSortByOrderThenTokens) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    Tokens a, b;
    for (uint64_t i = 0; i < 1 + random() % kMaxContextOrder; ++i) {
      a.push_back(static_cast<TokenId>(random() % kMaxVocab));
      b.push_back(random() % 2 ? a.back() : static_cast<TokenId>(random() % kMaxVocab));
    }
    Tokens back;
    ASSERT_TRUE(DecodeKey(EncodeKey(a), kMaxVocab, back).ok());
    EXPECT_EQ(back, a);
    EXPECT_EQ(EncodeKey(a) < EncodeKey(b), a < b);
    ASSERT_TRUE(DecodeShardKey(EncodeShardKey(a), kMaxVocab, back).ok());
    EXPECT_EQ(back, a);
    b.resize(1 + random() % b.size());
    EXPECT_EQ(EncodeShardKey(a) < EncodeShardKey(b), a < b);
    EXPECT_TRUE(b.size() >= a.size() || EncodeKey(b) < EncodeKey(a));
  }
}

TEST(SnapshotFormat, RefusesForeignKeys) {
  Tokens context;
  for (const std::string& key :
       {std::string(), std::string("\0", 1), std::string("\1", 1), std::string("\1\0\0", 3),
        std::string("\1\0\0\0\0", 5), std::string("\x09", 1) + std::string(27, '\0')}) {
    EXPECT_EQ(DecodeKey(key, 10, context).code(), absl::StatusCode::kDataLoss);
  }
  EXPECT_TRUE(DecodeKey(std::string("\1\0\0\x9", 4), 10, context).ok());
  EXPECT_FALSE(DecodeKey(std::string("\1\0\0\xa", 4), 10, context).ok());
  for (const std::string& key : {std::string(), std::string("\0", 1), std::string("\1\0\0\1", 4),
                                 std::string(1 + 27, '\0')}) {
    EXPECT_EQ(DecodeShardKey(key, 10, context).code(), absl::StatusCode::kDataLoss);
  }
}

TEST(SnapshotFormat, RowsRoundTrip) {
  std::mt19937_64 random(2);
  for (int64_t vocab_size : {8, 1000, 1 << 24}) {
    for (int round = 0; round < 500; ++round) {
      const ContextTree tree = RandomTree(random, vocab_size, 5);
      std::map<Tokens, std::string> expected, visited;
      Tokens below;
      Collect(tree, below, expected);
      std::string row;
      EncodeRow(tree, row);
      const absl::Status status = VisitInto(row, vocab_size, visited);
      ASSERT_TRUE(status.ok()) << status;
      EXPECT_EQ(visited, expected);
      // And step by step, to what is there and to what is not.
      for (const auto& [path, node] : expected) {
        RowWalker walker(row, vocab_size);
        ASSERT_EQ(walker.First(), RowWalker::Step::kFound);
        for (TokenId token : path) ASSERT_EQ(walker.Down(token), RowWalker::Step::kFound);
        EXPECT_EQ(ToString(walker.node()), node);
        Tokens longer = path;
        longer.push_back(static_cast<TokenId>(random() % vocab_size));
        EXPECT_EQ(walker.Down(longer.back()) == RowWalker::Step::kFound, expected.contains(longer));
      }
    }
  }
}

// The specification in README.md, byte by byte.
TEST(SnapshotFormat, RowBytesAreAsSpecified) {
  ContextTree tree;
  tree.node.total = 300;
  tree.node.size = 2;
  tree.node.ranked[0] = {200, 10};
  tree.node.ranked[1] = {7, 4};
  tree.node.children = Children::kInline;
  ContextTree child;
  child.token = 5;
  child.node.total = 3;
  child.node.size = 1;
  child.node.ranked[0] = {200, 3};
  tree.inline_children.push_back(child);
  child.token = 6;
  child.node.size = 2;
  child.node.total = 4;
  child.node.ranked[0] = {7, 2};
  child.node.ranked[1] = {9, 2};
  child.node.children = Children::kRows;
  tree.inline_children.push_back(child);
  std::string row;
  EncodeRow(tree, row);
  EXPECT_EQ(row, std::string("\x11"          // 2 continuations, children inline
                             "\x03\x06"      // 4 - 1, 10 - 4
                             "\x9d\x02"      // 300 - 14 - 1 untold
                             "\xc8\x01\x07"  // tokens 200 and 7
                             "\x02"          // two children:
                             "\x05\x02"      // token 5, 2 bytes
                             "\x00\x05"      // token 5 + 1, 5 bytes
                             "\x0c\x02"      // 1 continuation like the parent's, all told: 3 - 1
                             "\x16\x01\x00\x01\x0b",  // 2, children in rows, all told: 2 - 1, 2 -
                                                      // 2, the parent's second, 9 + 2
                             20));
}

// A node that decodes keeps every promise, whatever the bytes were.
absl::Status ExpectSound(const ContextNode& node, int64_t vocab_size) {
  uint64_t sum = 0;
  EXPECT_GE(node.size, 1);
  EXPECT_LE(node.size, kMaxContinuations);
  std::set<TokenId> used;
  for (int i = 0; i < node.size; ++i) {
    EXPECT_GE(node.ranked[i].token, 0);
    EXPECT_LT(node.ranked[i].token, vocab_size);
    EXPECT_TRUE(used.insert(node.ranked[i].token).second);
    EXPECT_GE(node.ranked[i].count, 1u);
    if (i > 0) {
      const RankedToken& before = node.ranked[i - 1];
      EXPECT_TRUE(before.count > node.ranked[i].count ||
                  (before.count == node.ranked[i].count && before.token < node.ranked[i].token));
    }
    sum += node.ranked[i].count;
  }
  EXPECT_LE(sum, node.total);
  EXPECT_LE(node.total, kMaxCount);
  return absl::OkStatus();
}

bool SoundOrRefused(const std::string& row, int64_t vocab_size) {
  const absl::Status status = RowWalker::VisitAll(
      row, vocab_size, 5, [&](std::span<const TokenId>, const ContextNode& node) {
        return ExpectSound(node, vocab_size);
      });
  EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kDataLoss) << status;
  RowWalker walker(row, vocab_size);
  auto step = walker.First();
  for (int depth = 0; depth < 8 && step == RowWalker::Step::kFound; ++depth) {
    ExpectSound(walker.node(), vocab_size).IgnoreError();
    step = walker.Down(static_cast<TokenId>(depth % 3));
  }
  return status.ok();
}

TEST(SnapshotFormat, EveryTruncationIsRefused) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 200; ++round) {
    std::string row;
    EncodeRow(RandomTree(random, 1000, 3), row);
    for (size_t size = 0; size < row.size(); ++size) {
      // A copy of its own, so that the sanitizer sees a read behind its end.
      EXPECT_FALSE(SoundOrRefused(std::string(row.data(), size), 1000));
    }
    EXPECT_FALSE(SoundOrRefused(row + '\1', 1000));
  }
}

TEST(SnapshotFormat, DamagedBytesAreRefusedOrSound) {
  std::mt19937_64 random(4);
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string row;
    EncodeRow(RandomTree(random, 1000, 3), row);
    for (uint64_t n = 1 + random() % 4; n > 0; --n) {
      row[random() % row.size()] = static_cast<char>(random());
    }
    refused += SoundOrRefused(row, 1000) ? 0 : 1;
  }
  EXPECT_GT(refused, 5000);
  for (int round = 0; round < 50000; ++round) {
    std::string row(random() % 40, '\0');
    for (char& byte : row) byte = static_cast<char>(random() % 3 ? random() % 24 : random());
    SoundOrRefused(row, 30);
  }
}

TEST(SnapshotFormat, ShardValuesRoundTripAndRefuseDamage) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 300; ++round) {
    std::vector<RankedToken> next, back;
    TokenId token = static_cast<TokenId>(random() % 5);
    for (uint64_t i = 0; i < 1 + random() % 50; ++i) {
      next.push_back({token, 1 + random() % 1000});
      token += 1 + static_cast<TokenId>(random() % 300);
    }
    std::string bytes;
    EncodeShardValue(next, bytes);
    ASSERT_TRUE(DecodeShardValue(bytes, token, back).ok());
    ASSERT_EQ(back.size(), next.size());
    for (size_t i = 0; i < next.size(); ++i) {
      EXPECT_EQ(back[i].token, next[i].token);
      EXPECT_EQ(back[i].count, next[i].count);
    }
    EXPECT_FALSE(DecodeShardValue(bytes, next.back().token, back).ok());
    bytes[random() % bytes.size()] = static_cast<char>(random());
    if (DecodeShardValue(bytes, 100000, back).ok()) {
      for (size_t i = 0; i < back.size(); ++i) {
        EXPECT_LT(back[i].token, 100000);
        EXPECT_GE(back[i].count, 1u);
        EXPECT_TRUE(i == 0 || back[i - 1].token < back[i].token);
      }
    }
  }
  std::vector<RankedToken> back;
  EXPECT_FALSE(DecodeShardValue("", 10, back).ok());
}

TEST(Varint, ReadsWhatFitsInto64Bits) {
  for (uint64_t value :
       {uint64_t{0}, uint64_t{127}, uint64_t{128}, uint64_t{1} << 63, ~uint64_t{0}}) {
    std::string bytes;
    AppendVarint(value, bytes);
    VarintReader in(bytes);
    uint64_t back;
    ASSERT_TRUE(in.Read(back));
    EXPECT_EQ(back, value);
    EXPECT_TRUE(in.done());
  }
  uint64_t back;
  const std::string too_large = std::string(9, '\xff') + '\x02';
  EXPECT_FALSE(VarintReader(too_large).Read(back));
  const std::string endless(11, '\x80');
  EXPECT_FALSE(VarintReader(endless).Read(back));
}

}  // namespace
}  // namespace strata::draft
