// A snapshot of thousands of files.

#include <gtest/gtest.h>

#include <random>

#include "common/base/file_limit.h"
#include "services/draft/corpus/corpus_tier.h"
#include "services/draft/corpus/manifest.h"
#include "tests/corpus/corpus_testing.h"

namespace strata::draft {
namespace {

constexpr int kVocabulary = 30000;

// How long it takes to open one: tests/bench/corpus.
TEST(ManyFiles, AreOneSnapshot) {
  // RocksDB holds each of them open.
  ASSERT_TRUE(RaiseOpenFileLimit().ok());
  testing::TempDir root;
  std::mt19937 random(1);
  testing::Documents documents(100);
  for (testing::Tokens& document : documents) {
    for (int i = 0; i < 5000; ++i) {
      document.push_back(static_cast<TokenId>(random() % kVocabulary));
    }
  }
  BuilderOptions options;
  options.name = "s";
  options.count.prune_count = 1;
  // A file for each block.
  options.sst_bytes = 1;
  options.part_windows = 1;
  const Manifest manifest = testing::BuildSnapshot(root.path(), documents, kVocabulary, options);
  EXPECT_GT(manifest.files.size(), 2000u);

  const auto tier = CorpusTier::Open(root.path(), 8 << 20);
  ASSERT_TRUE(tier.ok()) << tier.status();
  const testing::Tokens& some = documents[7];
  const Evidence evidence = testing::Ask(**tier, {some.begin(), some.begin() + 6});
  ASSERT_GT(evidence.levels, 0);
  EXPECT_EQ(evidence.level[0].order, 6);
  EXPECT_EQ(evidence.level[0].continuations[0].token, some[6]);
}

}  // namespace
}  // namespace strata::draft
