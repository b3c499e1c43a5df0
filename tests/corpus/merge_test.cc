#include "services/draft/corpus/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "services/draft/corpus/corpus_tier.h"
#include "services/draft/corpus/snapshot_format.h"
#include "services/draft/corpus/snapshot_verifier.h"
#include "tests/corpus/corpus_testing.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;
using testing::AllFiles;
using testing::BuildSnapshot;
using testing::Documents;
using ::testing::HasSubstr;
using testing::RandomDocuments;
using testing::SstFiles;

class Merge : public ::testing::Test {
 protected:
  Merge() {
    for (uint64_t i = 0; i < 3; ++i) {
      parts_.push_back(RandomDocuments(i, 120, 150));
      all_.insert(all_.end(), parts_[i].begin(), parts_[i].end());
    }
  }
  static BuilderOptions Options(const std::string& name, bool shard = false) {
    BuilderOptions options;
    options.name = name;
    options.count.shard = shard;
    options.part_windows = 500;
    options.sst_bytes = 4000;
    return options;
  }
  absl::StatusOr<MergeReport> Join(const BuilderOptions& options,
                                   const std::vector<std::string>& names) {
    MergeRequest request;
    request.root = root_.path();
    for (const std::string& name : names) request.shards.push_back(root_ / name);
    request.builder = options;
    return MergeShards(request);
  }
  void BuildShards() {
    for (size_t i = 0; i < parts_.size(); ++i) {
      BuildSnapshot(root_.path(), parts_[i], 150, Options("shard" + std::to_string(i), true));
    }
  }

  testing::TempDir root_;
  std::vector<Documents> parts_;
  Documents all_;
};

TEST_F(Merge, EqualsABuildOverAllInput) {
  BuildShards();
  EXPECT_FALSE(fs::exists(root_ / "CURRENT"));
  for (uint64_t prune : {1, 2, 3}) {
    BuilderOptions options = Options("whole" + std::to_string(prune));
    options.count.prune_count = prune;
    options.count.prune_continuations = (prune + 1) / 2;
    options.count.top = 5;
    const Manifest whole = BuildSnapshot(root_.path(), all_, 150, options);
    options.name = "merged" + std::to_string(prune);
    options.threads = 2;
    // In whatever order the shards are named.
    auto merged = Join(options, {"shard2", "shard0", "shard1"});
    ASSERT_TRUE(merged.ok()) << merged.status();
    EXPECT_EQ(AllFiles(merged->path), AllFiles(root_ / ("whole" + std::to_string(prune))));
    EXPECT_EQ(merged->manifest.tokens, whole.tokens);
    EXPECT_EQ(merged->manifest.documents, whole.documents);
    EXPECT_EQ(merged->manifest.contexts, whole.contexts);
    EXPECT_EQ(testing::ReadFile(root_ / "CURRENT"), options.name + "\n");
    EXPECT_TRUE(VerifySnapshot(merged->path, [](double) {}).ok());
    EXPECT_TRUE(CorpusTier::Open(root_.path(), 1 << 20).ok());
  }
}

TEST_F(Merge, ShardsOfShardsEqualOneShard) {
  BuildShards();
  BuildSnapshot(root_.path(), all_, 150, Options("whole", true));
  ASSERT_TRUE(Join(Options("two", true), {"shard0", "shard1"}).ok());
  auto merged = Join(Options("three", true), {"two", "shard2"});
  ASSERT_TRUE(merged.ok()) << merged.status();
  EXPECT_EQ(AllFiles(merged->path), AllFiles(root_ / "whole"));
  const auto report = VerifySnapshot(merged->path, [](double) {});
  EXPECT_TRUE(report.ok()) << report.status();
  EXPECT_FALSE(fs::exists(root_ / "CURRENT"));
}

// The last token of the largest vocabulary, whose end does not fit into a key.
TEST_F(Merge, TheHighestTokenIsThere) {
  const TokenId last = static_cast<TokenId>(kMaxVocab - 1);
  const Documents documents = {{last, last, 1}, {last, last, 1}};
  BuildSnapshot(root_.path(), documents, kMaxVocab, Options("high", true));
  BuildSnapshot(root_.path(), documents, kMaxVocab, Options("whole"));
  auto merged = Join(Options("merged"), {"high"});
  ASSERT_TRUE(merged.ok()) << merged.status();
  EXPECT_EQ(AllFiles(merged->path), AllFiles(root_ / "whole"));
}

TEST_F(Merge, RefusesWhatDoesNotFitAndLeavesNothing) {
  BuildShards();
  BuildSnapshot(root_.path(), all_, 150, Options("pruned"));
  BuildSnapshot(root_.path(), parts_[0], 151, Options("larger", true));
  BuilderOptions shorter = Options("shorter", true);
  shorter.count.max_order = 5;
  BuildSnapshot(root_.path(), parts_[0], 150, shorter);
  auto foreign =
      SnapshotBuilder::Create(root_.path(), std::string(32, 'f'), 150, Options("foreign", true));
  ASSERT_TRUE(foreign.ok());
  ASSERT_TRUE((*foreign)->AddDocument({1, 2}).ok());
  ASSERT_TRUE((*foreign)->Finish().ok());
  using Code = absl::StatusCode;
  const std::tuple<std::vector<std::string>, Code, std::string> cases[] = {
      {{}, Code::kInvalidArgument, "no shard"},
      {{"shard0", "none"}, Code::kNotFound, "none"},
      {{"shard0", "shard0/"}, Code::kInvalidArgument, "named twice"},
      {{"shard0", "pruned"}, Code::kFailedPrecondition, "not a shard"},
      {{"shard0", "larger"}, Code::kFailedPrecondition, "a vocabulary of 151"},
      {{"shard0", "shorter"}, Code::kFailedPrecondition, "contexts of up to 5"},
      {{"shard0", "foreign"}, Code::kFailedPrecondition, "the tokenizer ffff"},
  };
  for (const auto& [names, code, message] : cases) {
    const auto merged = Join(Options("merged"), names);
    EXPECT_EQ(merged.status().code(), code) << merged.status();
    EXPECT_THAT(std::string(merged.status().message()), HasSubstr(message));
    EXPECT_FALSE(fs::exists(root_ / "merged"));
  }
}

TEST_F(Merge, DamagedShardsAreRefused) {
  BuildShards();
  int refused = 0;
  for (const auto& [name, contents] : SstFiles(root_ / "shard0")) {
    const std::string path = root_ / ("shard0/rocksdb/" + name);
    for (size_t byte = 5; byte < contents.size(); byte += contents.size() / 7) {
      testing::FlipBit(path, byte, 2);
      const auto merged = Join(Options("merged"), {"shard0", "shard1"});
      if (!merged.ok()) ++refused;
      fs::remove_all(root_ / "merged");
      testing::FlipBit(path, byte, 2);
    }
  }
  EXPECT_GT(refused, 5);
  EXPECT_TRUE(Join(Options("merged"), {"shard0", "shard1"}).ok());
}

}  // namespace
}  // namespace strata::draft
