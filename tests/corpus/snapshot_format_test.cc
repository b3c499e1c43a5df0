#include "services/draft/corpus/snapshot_format.h"

#include <gtest/gtest.h>

#include <random>

#include "services/draft/corpus/varint.h"
#include "tests/corpus/corpus_testing.h"

namespace strata::draft {
namespace {

using testing::Tokens;
using testing::ToString;

ContextValue RandomValue(std::mt19937_64& random, int64_t vocab_size) {
  ContextValue value;
  uint64_t count = uint64_t{1} << (random() % 40);
  const int branches = 1 + static_cast<int>(random() % kMaxTop);
  TokenId token = static_cast<TokenId>(random() % 5);
  for (int b = 0; b < branches; ++b) {
    Branch branch;
    branch.length = 1 + static_cast<int>(random() % kMaxDepth);
    uint64_t below = count;
    for (int i = 0; i < branch.length; ++i) {
      branch.tokens[i] = i == 0 ? token : static_cast<TokenId>(random() % vocab_size);
      branch.counts[i] = below;
      if (random() % 2 == 0) below = 1 + below / 2;
    }
    value.total += count;
    value.branches.push_back(branch);
    token += 1 + static_cast<TokenId>(random() % 5);
    if (random() % 2 == 0) count = 1 + count / 3;
  }
  value.total += random() % 100;
  return value;
}

TEST(SnapshotFormat, KeysRoundTripAndSortAsTheirTokens) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    const size_t order = 1 + random() % kMaxOrder;
    Tokens a, b;
    for (size_t i = 0; i < order; ++i) {
      a.push_back(static_cast<TokenId>(random() % kMaxVocab));
      b.push_back(random() % 2 ? a.back() : static_cast<TokenId>(random() % kMaxVocab));
    }
    std::string key_a, key_b;
    EncodeKey(a, key_a);
    EncodeKey(b, key_b);
    Tokens back;
    ASSERT_TRUE(DecodeKey(key_a, kMaxVocab, back).ok());
    EXPECT_EQ(back, a);
    EXPECT_EQ(key_a < key_b, a < b);
    EXPECT_EQ(key_a == key_b, a == b);
  }
}

TEST(SnapshotFormat, RefusesForeignKeys) {
  Tokens context;
  for (const std::string& key :
       {std::string(), std::string("\0", 1), std::string("\1", 1), std::string("\1\0\0", 3),
        std::string("\1\0\0\0\0", 5), std::string("\x11", 1) + std::string(51, '\0')}) {
    EXPECT_EQ(DecodeKey(key, 10, context).code(), absl::StatusCode::kDataLoss);
  }
  EXPECT_TRUE(DecodeKey(std::string("\1\0\0\x9", 4), 10, context).ok());
  EXPECT_FALSE(DecodeKey(std::string("\1\0\0\xa", 4), 10, context).ok());
}

TEST(SnapshotFormat, ValuesRoundTrip) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 2000; ++round) {
    const ContextValue value = RandomValue(random, 1000);
    std::string bytes;
    EncodeValue(value, bytes);
    ContextValue back;
    const absl::Status status = DecodeValue(bytes, 1000, back);
    ASSERT_TRUE(status.ok()) << status << " " << ToString(value);
    EXPECT_EQ(ToString(back), ToString(value));
  }
}

// The specification in README.md, byte by byte.
TEST(SnapshotFormat, ValueBytesAreAsSpecified) {
  ContextValue value;
  value.total = 300;
  value.branches.resize(2);
  value.branches[0].length = 3;
  value.branches[0].tokens = {5, 200, 7};
  value.branches[0].counts = {10, 4, 4};
  value.branches[1].length = 2;
  value.branches[1].tokens = {6, 1};
  value.branches[1].counts = {10, 10};
  std::string bytes;
  EncodeValue(value, bytes);
  EXPECT_EQ(bytes, std::string("\xac\x02\x02"          // total 300, 2 continuations
                               "\x05\xa2\x02\x04"      // token 5, 300 - 10, 2 more, counts follow
                               "\xc8\x01\x06\x07\x00"  // token 200, 10 - 4; token 7, 4 - 4
                               "\x06\x00\x03\x01",     // token 6, 10 - 10, 1 more, same count
                               16));
}

// A value that decodes keeps every promise, whatever the bytes were.
void ExpectSound(const ContextValue& value, int64_t vocab_size) {
  uint64_t sum = 0;
  ASSERT_GE(value.branches.size(), 1u);
  ASSERT_LE(value.branches.size(), static_cast<size_t>(kMaxTop));
  for (const Branch& branch : value.branches) {
    ASSERT_GE(branch.length, 1);
    ASSERT_LE(branch.length, kMaxDepth);
    for (int i = 0; i < branch.length; ++i) {
      ASSERT_GE(branch.tokens[i], 0);
      ASSERT_LT(branch.tokens[i], vocab_size);
      ASSERT_GE(branch.counts[i], 1u);
      if (i > 0) {
        ASSERT_LE(branch.counts[i], branch.counts[i - 1]);
      }
    }
    sum += branch.counts[0];
  }
  ASSERT_LE(sum, value.total);
}

TEST(SnapshotFormat, EveryTruncationIsRefused) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 200; ++round) {
    std::string bytes;
    EncodeValue(RandomValue(random, 1000), bytes);
    ContextValue back;
    for (size_t size = 0; size < bytes.size(); ++size) {
      // A copy of its own, so that the sanitizer sees a read behind its end.
      const std::string cut(bytes.data(), size);
      EXPECT_EQ(DecodeValue(cut, 1000, back).code(), absl::StatusCode::kDataLoss);
    }
    EXPECT_EQ(DecodeValue(bytes + '\1', 1000, back).code(), absl::StatusCode::kDataLoss);
  }
}

TEST(SnapshotFormat, DamagedBytesAreRefusedOrSound) {
  std::mt19937_64 random(4);
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    EncodeValue(RandomValue(random, 1000), bytes);
    for (uint64_t n = 1 + random() % 4; n > 0; --n) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    ContextValue back;
    if (DecodeValue(bytes, 1000, back).ok()) {
      ExpectSound(back, 1000);
    } else {
      ++refused;
    }
  }
  EXPECT_GT(refused, 5000);
}

TEST(SnapshotFormat, RandomBytesAreRefusedOrSound) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 50000; ++round) {
    std::string bytes(random() % 40, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random() % 3 ? random() % 8 : random());
    ContextValue back;
    if (DecodeValue(bytes, 7, back).ok()) ExpectSound(back, 7);
  }
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
