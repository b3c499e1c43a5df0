// Building from saved model tiers: what a draft service saves, counted as if its text were there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/tokenizer/tokenizer.h"
#include "services/draft/corpus/build.h"
#include "services/draft/corpus/corpus_tier.h"
#include "services/draft/corpus/merge.h"
#include "services/draft/corpus/tier_reader.h"
#include "services/draft/hierarchy/sequence.h"
#include "services/draft/tiers/model_store.h"
#include "tests/corpus/corpus_testing.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;
using testing::BuildSnapshot;
using testing::Documents;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::RandomDocuments;
using testing::SstFiles;
using testing::TempDir;
using testing::Tokens;

class TierBuild : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* model = std::getenv("STRATA_TEST_MODEL");
    ASSERT_NE(model, nullptr) << "STRATA_TEST_MODEL must name a model folder with tokenizer.json";
    model_ = model;
    auto tokenizer = Tokenizer::Load(model_);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    fingerprint_ = (*tokenizer)->fingerprint();
    vocab_size_ = (*tokenizer)->vocab_size();
  }

  // What a draft service that was sent `documents` saves in `folder`: of each, the first `prompt`
  // tokens are its prompt, and tokens come a few at a time.
  void Teach(const std::string& folder, const std::string& tenant, const Documents& documents,
             size_t prompt = 1, const std::string& fingerprint = "") {
    std::vector<std::string> warnings;
    auto store = ModelStore::Open({.dir = dir_ / folder}, &warnings);
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_THAT(warnings, IsEmpty());
    const ModelKey key = {"model", fingerprint.empty() ? fingerprint_ : fingerprint, tenant};
    for (const Tokens& document : documents) {
      if (document.empty()) continue;
      const auto first = std::span(document).first(std::min(prompt, document.size()));
      Sequence sequence(1, key, first, {}, store->get());
      sequence.Append(first);
      for (size_t at = first.size(); at < document.size();) {
        const size_t more = std::min(document.size() - at, 1 + at % 5);
        sequence.Append(std::span(document).subspan(at, more));
        at += more;
      }
      sequence.Finish();
    }
    ASSERT_TRUE((*store)->Save().ok());
  }

  BuildRequest Request(const std::string& name, const std::vector<std::string>& folders) {
    BuildRequest request;
    request.tokenizer_dir = model_;
    request.root = dir_ / "root";
    for (const std::string& folder : folders) request.tiers.inputs.push_back(dir_ / folder);
    request.tiers.all_tenants = true;
    request.builder.name = name;
    request.builder.count.prune_count = 1;
    request.builder.memory_bytes = LeastBuildMemory(1);
    request.warn = [this](const std::string& warning) { warnings_.push_back(warning); };
    return request;
  }
  absl::StatusOr<BuildReport> Build(const BuildRequest& request) { return BuildFromFiles(request); }
  // Files of a build from the text itself.
  std::map<std::string, std::string> FilesOf(const std::string& name, const Documents& documents,
                                             bool shard = false) {
    BuilderOptions options;
    options.name = name;
    options.count.prune_count = 1;
    options.count.shard = shard;
    BuildSnapshot(dir_ / "text", documents, vocab_size_, options);
    return SstFiles(dir_ / ("text/" + name));
  }

  TempDir dir_;
  std::string model_;
  std::string fingerprint_;
  int64_t vocab_size_ = 0;
  std::vector<std::string> warnings_;
};

// Long enough for many segments each, which overlap.
Documents LongDocuments(uint64_t seed) {
  Documents documents;
  Tokens joined;
  for (const Tokens& document : RandomDocuments(seed, 200, 60)) {
    joined.insert(joined.end(), document.begin(), document.end());
    if (joined.size() > 300 + 97 * documents.size()) documents.push_back(std::exchange(joined, {}));
  }
  return documents;
}

TEST_F(TierBuild, EqualsABuildFromTheText) {
  const Documents documents = LongDocuments(1);
  ASSERT_GT(documents.size(), 3u);
  Teach("tiers", "acme", documents);
  for (const int max_order : {1, 6, 8}) {
    BuildRequest request = Request("order" + std::to_string(max_order), {"tiers"});
    request.builder.count.max_order = max_order;
    const auto report = Build(request);
    ASSERT_TRUE(report.ok()) << report.status();
    BuilderOptions options;
    options.name = request.builder.name;
    options.count = request.builder.count;
    const Manifest text = BuildSnapshot(dir_ / "text", documents, vocab_size_, options);
    EXPECT_EQ(SstFiles(report->path), SstFiles(dir_ / ("text/" + options.name)));
    EXPECT_EQ(report->manifest.tokens, text.tokens);
    EXPECT_EQ(report->manifest.contexts, text.contexts);
    EXPECT_EQ(report->tiers.files, 1u);
  }
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(TierBuild, ReplicasAndTenantsAddUp) {
  const std::vector<Documents> parts = {LongDocuments(2), LongDocuments(3), LongDocuments(4)};
  Teach("tiers/pod-a", "acme", parts[0]);
  Teach("tiers/pod-a", "", parts[1]);
  Teach("tiers/pod-b", "acme", parts[2]);
  Documents all, acme;
  for (const size_t i : {0, 1, 2}) all.insert(all.end(), parts[i].begin(), parts[i].end());
  for (const size_t i : {0, 2}) acme.insert(acme.end(), parts[i].begin(), parts[i].end());

  auto report = Build(Request("all", {"tiers"}));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->tiers.files, 3u);
  EXPECT_EQ(SstFiles(report->path), FilesOf("all", all));

  BuildRequest request = Request("acme", {"tiers"});
  request.tiers.all_tenants = false;
  request.tiers.tenants = {"nobody", "acme"};
  report = Build(request);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->tiers.files, 2u);
  EXPECT_EQ(report->tiers.other_tenants, 1u);
  EXPECT_EQ(SstFiles(report->path), FilesOf("acme", acme));

  // The tenant without a name is one, too.
  request = Request("unnamed", {"tiers"});
  request.tiers.all_tenants = false;
  request.tiers.tenants = {""};
  report = Build(request);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(SstFiles(report->path), FilesOf("unnamed", parts[1]));
}

TEST_F(TierBuild, PromptsAreContextsAlone) {
  // Prompt 1000 to 1019, answer 2000 to 2099.
  Tokens document(20);
  std::iota(document.begin(), document.end(), 1000);
  document.resize(120);
  std::iota(document.begin() + 20, document.end(), 2000);
  Teach("tiers", "acme", {document}, /*prompt=*/20);
  const auto report = Build(Request("one", {"tiers"}));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->manifest.tokens, 100u);
  const auto tier = CorpusTier::Open(report->path, 1 << 20);
  ASSERT_TRUE(tier.ok()) << tier.status();
  for (size_t i = 0; i + 1 < document.size(); ++i) {
    const Evidence evidence = testing::Ask(**tier, {document[i]});
    // What the client wrote does not follow what it wrote.
    ASSERT_EQ(evidence.levels, i < 19 ? 0 : 1) << i;
    if (i < 19) continue;
    EXPECT_EQ(evidence.level[0].total, 1u) << i;
    EXPECT_EQ(evidence.level[0].continuations[0].token, document[i + 1]) << i;
  }
}

TEST_F(TierBuild, ThreadsMemoryAndPartsChangeNothing) {
  Documents documents;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    for (Tokens& document : LongDocuments(seed)) documents.push_back(std::move(document));
  }
  size_t tokens = 0;
  for (const Tokens& document : documents) tokens += document.size();
  // More than one part, and more than one run.
  ASSERT_GT(tokens, 200'000u);
  Teach("tiers", "acme", documents);
  BuildRequest request = Request("small", {"tiers"});
  request.builder.threads = 3;
  request.builder.memory_bytes = LeastBuildMemory(3);
  const auto report = Build(request);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_GT(report->runs, 2);
  EXPECT_EQ(SstFiles(report->path), FilesOf("small", documents));
}

TEST_F(TierBuild, AnInterruptedBuildGoesOn) {
  Documents documents;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    for (Tokens& document : LongDocuments(seed)) documents.push_back(std::move(document));
  }
  Teach("tiers", "acme", documents);
  BuildRequest request = Request("resumed", {"tiers"});
  std::atomic<bool> cancel = false;
  request.cancel = &cancel;
  request.progress = [&](const char* phase, double) {
    if (std::string(phase) == "counting") cancel = true;
  };
  EXPECT_TRUE(absl::IsCancelled(Build(request).status()));
  cancel = false;
  request.progress = [](const char*, double) {};
  const auto report = Build(request);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_GT(report->resumed_runs, 0);
  // All was counted before.
  EXPECT_EQ(report->tiers.files, 0u);
  EXPECT_EQ(SstFiles(report->path), FilesOf("resumed", documents));
  // Another choice of tenants is other work.
  request.builder.name = "other";
  request.tiers.all_tenants = false;
  request.tiers.tenants = {"acme"};
  const auto other = Build(request);
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(other->resumed_runs, 0);
}

TEST_F(TierBuild, AShardOfTiersMergesWithTheTextsShard) {
  const Documents text = LongDocuments(5), said = LongDocuments(6);
  Teach("tiers", "acme", said);
  BuildRequest request = Request("learned", {"tiers"});
  request.builder.count.shard = true;
  const auto shard = Build(request);
  ASSERT_TRUE(shard.ok()) << shard.status();
  EXPECT_EQ(SstFiles(shard->path), FilesOf("learned", said, /*shard=*/true));
  // A shard of the same tokenizer: made from tiers, too.
  Teach("base", "acme", text);
  request = Request("base", {"base"});
  request.builder.count.shard = true;
  ASSERT_TRUE(Build(request).ok());

  MergeRequest merge;
  merge.root = dir_ / "root";
  merge.shards = {dir_ / "root/base", dir_ / "root/learned"};
  merge.builder.name = "next";
  merge.builder.count.prune_count = 1;
  merge.builder.keep_current = true;
  const auto merged = MergeShards(merge);
  ASSERT_TRUE(merged.ok()) << merged.status();
  EXPECT_FALSE(fs::exists(dir_ / "root/CURRENT"));
  Documents all = text;
  all.insert(all.end(), said.begin(), said.end());
  EXPECT_EQ(SstFiles(merged->path), FilesOf("next", all));
}

TEST_F(TierBuild, DamagedFilesAreLeftOutAndNamed) {
  const Documents documents = LongDocuments(7);
  Teach("tiers/good", "acme", documents);
  Teach("tiers/bad", "acme", LongDocuments(8));
  std::string damaged;
  for (const auto& entry : fs::directory_iterator(dir_ / "tiers/bad")) {
    if (entry.path().extension() == ".tier") damaged = entry.path().string();
  }
  ASSERT_NE(damaged, "");
  testing::FlipBit(damaged, fs::file_size(damaged) / 2, 4);
  testing::WriteFile(dir_ / "tiers/bad/empty.tier", "");
  // No model tiers, by their names.
  testing::WriteFile(dir_ / "tiers/bad/old.tier.damaged", "x");
  const auto report = Build(Request("one", {"tiers"}));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(warnings_, ::testing::UnorderedElementsAre(HasSubstr(damaged),
                                                         HasSubstr(dir_ / "tiers/bad/empty.tier")));
  EXPECT_EQ(report->tiers.damaged, 2u);
  EXPECT_EQ(SstFiles(report->path), FilesOf("one", documents));
  // Left as it is: it is the draft service's.
  EXPECT_TRUE(fs::exists(damaged));
}

TEST_F(TierBuild, AnotherTokenizersTiersAreRefused) {
  Teach("tiers", "acme", LongDocuments(9), 1, "0123456789abcdef");
  Teach("tiers", "other", LongDocuments(9));
  auto report = Build(Request("one", {"tiers"}));
  ASSERT_FALSE(report.ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(report.status())) << report.status();
  EXPECT_THAT(std::string(report.status().message()), HasSubstr("0123456789abcdef"));
  EXPECT_THAT(std::string(report.status().message()), HasSubstr(fingerprint_));
  EXPECT_FALSE(fs::exists(dir_ / "root/CURRENT"));
  // Those of tenants that were not chosen are nobody's business.
  BuildRequest request = Request("two", {"tiers"});
  request.tiers.all_tenants = false;
  request.tiers.tenants = {"other"};
  report = Build(request);
  EXPECT_TRUE(report.ok()) << report.status();
}

TEST_F(TierBuild, SegmentsWithUnknownTokensAreLeftOut) {
  ModelFileContent content;
  content.key = {"model", fingerprint_, "acme"};
  content.segments = {{{1, 2, 3, 4}, 0, 3},
                      {{1, static_cast<TokenId>(vocab_size_), 3}, 0, 2},
                      // Of no keys, and without what follows its last.
                      {{7, 8, 9}, 2, 2},
                      {{7, 8, 9}, 1, 3}};
  testing::WriteFile(dir_ / "tiers/a.tier", EncodeModelFile(content));
  const auto report = Build(Request("one", {"tiers"}));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->tiers.segments_left_out, 1u);
  const auto tier = CorpusTier::Open(report->path, 1 << 20);
  ASSERT_TRUE(tier.ok()) << tier.status();
  EXPECT_EQ(testing::Ask(**tier, {1}).level[0].total, 1u);
  EXPECT_EQ(testing::Ask(**tier, {7}).levels, 0);
  EXPECT_EQ(testing::Ask(**tier, {7, 8}).level[0].total, 1u);
  EXPECT_EQ(testing::Ask(**tier, {9}).levels, 0);
}

TEST_F(TierBuild, WhoseTextItIsMustBeSaid) {
  Teach("tiers", "acme", LongDocuments(10));
  BuildRequest request = Request("one", {"tiers"});
  request.tiers.all_tenants = false;
  absl::Status status = Build(request).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("--all-tenants"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("for all"));

  request.tiers.all_tenants = true;
  request.tiers.tenants = {"acme"};
  EXPECT_TRUE(absl::IsInvalidArgument(Build(request).status()));

  request = Request("one", {});
  request.inputs = {model_ + "/tokenizer.json"};
  EXPECT_TRUE(absl::IsInvalidArgument(Build(request).status()));

  request = Request("one", {});
  request.tiers.inputs = {model_ + "/tokenizer.json"};
  EXPECT_TRUE(absl::IsInvalidArgument(Build(request).status()));

  // Nobody of that name: nothing to build from.
  request = Request("one", {"tiers"});
  request.tiers.all_tenants = false;
  request.tiers.tenants = {"nobody"};
  status = Build(request).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_FALSE(fs::exists(dir_ / "root/one"));
}

}  // namespace
}  // namespace strata::draft
