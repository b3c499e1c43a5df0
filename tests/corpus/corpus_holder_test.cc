#include "services/draft/corpus/corpus_holder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <filesystem>
#include <thread>

#include "absl/time/clock.h"
#include "services/draft/corpus/file_util.h"
#include "services/draft/corpus/manifest.h"
#include "tests/corpus/corpus_testing.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;
using testing::Ask;
using testing::BuildSnapshot;
using ::testing::HasSubstr;
using testing::Tokens;
using testing::ToString;

constexpr char kFingerprint[] = "0123456789abcdef0123456789abcdef";

class Holder : public ::testing::Test {
 protected:
  // A snapshot in which `next` follows 1, of one token less than the name has characters.
  void Build(const std::string& name, TokenId next) {
    BuilderOptions options;
    options.name = name;
    BuildSnapshot(root_.path(), {{1, next}, {1, next}}, 10, options);
  }
  absl::StatusOr<std::shared_ptr<const CorpusHolder>> Open(
      absl::Duration poll = absl::ZeroDuration(), size_t cache_bytes = 1 << 20) {
    CorpusHolderOptions options;
    options.dir = root_.path();
    options.cache_bytes = cache_bytes;
    options.poll_interval = poll;
    return CorpusHolder::Open(options);
  }
  void Point(const std::string& name) {
    ASSERT_TRUE(WriteFileAtomically(root_ / "CURRENT", name + "\n").ok());
  }

  testing::TempDir root_;
};

TEST_F(Holder, MovesWhenCurrentDoes) {
  Build("old", 2);
  auto holder = Open();
  ASSERT_TRUE(holder.ok()) << holder.status();
  EXPECT_EQ((*holder)->kind(), TierKind::kCorpus);
  EXPECT_EQ((*holder)->snapshot_name(), "old");
  EXPECT_EQ((*holder)->token_count(), 4u);
  EXPECT_EQ((*holder)->tokenizer_fingerprint(), kFingerprint);
  EXPECT_TRUE((*holder)->Poll().ok());
  EXPECT_EQ((*holder)->swaps(), 0u);
  EXPECT_EQ(ToString(Ask(**holder, {1})), "1: 2 [ 2:2 ] ");
  const auto pinned = (*holder)->tier();
  Build("new", 3);
  // Nothing moves of itself without a watch.
  EXPECT_EQ((*holder)->snapshot_name(), "old");
  EXPECT_TRUE((*holder)->Poll().ok());
  EXPECT_EQ((*holder)->snapshot_name(), "new");
  EXPECT_EQ((*holder)->swaps(), 1u);
  EXPECT_EQ(ToString(Ask(**holder, {1})), "1: 2 [ 3:2 ] ");
  EXPECT_EQ(ToString(Ask(*pinned, {1})), "1: 2 [ 2:2 ] ");
  // Back again.
  Point("old");
  EXPECT_TRUE((*holder)->Poll().ok());
  EXPECT_EQ(ToString(Ask(**holder, {1})), "1: 2 [ 2:2 ] ");
  EXPECT_EQ((*holder)->swaps(), 2u);
}

TEST_F(Holder, LetsGoOfWhatNobodyUses) {
  Build("old", 2);
  auto holder = Open();
  ASSERT_TRUE(holder.ok());
  std::weak_ptr<const CorpusTier> old = (*holder)->tier();
  Build("new", 3);
  ASSERT_TRUE((*holder)->Poll().ok());
  EXPECT_FALSE(old.expired());
  ASSERT_TRUE((*holder)->Poll().ok());
  EXPECT_TRUE(old.expired());
}

TEST_F(Holder, KeepsTheOldOneIfTheNewIsUnfit) {
  Build("old", 2);
  auto holder = Open();
  ASSERT_TRUE(holder.ok());
  const auto stays = [&] {
    EXPECT_EQ((*holder)->snapshot_name(), "old");
    EXPECT_EQ(ToString(Ask(**holder, {1})), "1: 2 [ 2:2 ] ");
    EXPECT_EQ((*holder)->swaps(), 0u);
    // Not tried again while CURRENT stays as it is.
    EXPECT_TRUE((*holder)->Poll().ok());
  };
  EXPECT_EQ((*holder)->refusals(), 0u);
  Point("none");
  EXPECT_EQ((*holder)->Poll().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ((*holder)->refusals(), 1u);
  stays();
  Point("../old");
  EXPECT_EQ((*holder)->Poll().code(), absl::StatusCode::kDataLoss);
  stays();
  fs::create_directory(root_ / "unfinished");
  Point("unfinished");
  EXPECT_EQ((*holder)->Poll().code(), absl::StatusCode::kFailedPrecondition);
  stays();
  Build("damaged", 3);
  for (const auto& entry : fs::directory_iterator(root_ / "damaged/rocksdb")) {
    if (entry.path().extension() == ".sst") fs::resize_file(entry.path(), 10);
  }
  EXPECT_EQ((*holder)->Poll().code(), absl::StatusCode::kDataLoss);
  stays();
  // Of another tokenizer.
  BuilderOptions options;
  options.name = "foreign";
  auto builder = SnapshotBuilder::Create(root_.path(), std::string(32, 'f'), 10, options);
  ASSERT_TRUE(builder.ok());
  ASSERT_TRUE((*builder)->AddDocument({1, 4}).ok());
  ASSERT_TRUE((*builder)->Finish().ok());
  const absl::Status refused = (*holder)->Poll();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr(kFingerprint));
  stays();
  EXPECT_EQ((*holder)->refusals(), 5u);
  // CURRENT gone, as on a volume that is away.
  fs::remove(root_ / "CURRENT");
  EXPECT_TRUE((*holder)->Poll().ok());
  stays();
  // The same name, written again, is tried again.
  fs::remove_all(root_ / "damaged");
  Build("damaged", 5);
  EXPECT_TRUE((*holder)->Poll().ok());
  EXPECT_EQ(ToString(Ask(**holder, {1})), "1: 2 [ 5:2 ] ");
}

TEST_F(Holder, CountsWhatTheCacheDoes) {
  Build("s", 2);
  auto holder = Open();
  ASSERT_TRUE(holder.ok());
  const CorpusCache::Stats before = (*holder)->cache_stats();
  EXPECT_GT(before.max_block_bytes, 0u);
  EXPECT_GT(before.context_bytes, 0u);
  for (TokenId token = 0; token < 100; ++token) Ask(**holder, {token, 1});
  const CorpusCache::Stats after = (*holder)->cache_stats();
  EXPECT_GT(after.block_hits + after.block_misses, before.block_hits + before.block_misses);
  EXPECT_GE(after.block_hits, before.block_hits);
  EXPECT_GE(after.block_misses, before.block_misses);
  EXPECT_GT(after.block_bytes, 0u);
  EXPECT_LE(after.block_bytes, after.max_block_bytes);
}

// The first requests find in memory what later ones would.
TEST_F(Holder, ReadsTheFirstOneBeforeItServes) {
  const testing::Documents documents = testing::RandomDocuments(1, 4000, 100);
  BuilderOptions options;
  options.name = "s";
  BuildSnapshot(root_.path(), documents, 100, options);
  for (const size_t cache_bytes : {size_t{1} << 18, size_t{16} << 20}) {
    auto holder = Open(absl::ZeroDuration(), cache_bytes);
    ASSERT_TRUE(holder.ok());
    const CorpusCache::Stats opened = (*holder)->cache_stats();
    for (const auto& document : documents) {
      for (size_t i = 1; i < document.size(); ++i) Ask(**holder, {document[i - 1], document[i]});
    }
    const CorpusCache::Stats asked = (*holder)->cache_stats();
    EXPECT_GT(opened.block_bytes, asked.block_bytes / 2) << cache_bytes;
    EXPECT_LE(asked.block_bytes, asked.max_block_bytes) << cache_bytes;
  }
}

TEST_F(Holder, TheFirstOneMustBeFit) {
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kFailedPrecondition);
  Build("s", 2);
  CorpusHolderOptions options;
  options.dir = root_.path();
  options.tokenizer_fingerprint = std::string(32, 'f');
  EXPECT_EQ(CorpusHolder::Open(options).status().code(), absl::StatusCode::kFailedPrecondition);
  options.tokenizer_fingerprint = kFingerprint;
  EXPECT_TRUE(CorpusHolder::Open(options).ok());
  BuilderOptions shard;
  shard.name = "shard";
  shard.count.shard = true;
  BuildSnapshot(root_.path(), {{1, 2}}, 10, shard);
  options.dir = root_ / "shard";
  const absl::Status refused = CorpusHolder::Open(options).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("strata-corpus merge"));
}

// Requests go on through many swaps, each answered by one snapshot as a whole.
TEST_F(Holder, NoRequestFailsWhileSnapshotsChange) {
  for (TokenId next = 2; next < 6; ++next) Build("s" + std::to_string(next), next);
  auto holder = Open(absl::Milliseconds(1));
  ASSERT_TRUE(holder.ok());
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0}, asked{0};
  std::vector<std::thread> readers;
  for (int t = 0; t < 3; ++t) {
    readers.emplace_back([&] {
      const ContextTail tail(Tokens{1});
      const std::vector<MatchQuery> queries(20, MatchQuery{&tail, 6});
      std::vector<Evidence> answers(queries.size());
      while (!stop) {
        (*holder)->Match(queries, 3, answers);
        for (const Evidence& answer : answers) {
          const ContextCounts& counts = answer.level[0];
          wrong += answer.levels != 1 || counts.total != 2 || counts.size != 1 ||
                   counts.continuations[0].token != answers[0].level[0].continuations[0].token;
        }
        ++asked;
      }
    });
  }
  const absl::Time end = absl::Now() + absl::Seconds(60);
  for (uint64_t swap = 0; swap < 12 && absl::Now() < end; ++swap) {
    Point("s" + std::to_string(2 + swap % 4));
    while ((*holder)->swaps() <= swap && absl::Now() < end) absl::SleepFor(absl::Milliseconds(1));
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_GE((*holder)->swaps(), 12u);
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(asked, 12);
}

}  // namespace
}  // namespace strata::draft
