#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <random>
#include <thread>

#include "services/draft/corpus/corpus_tier.h"
#include "services/draft/corpus/snapshot_verifier.h"
#include "tests/corpus/corpus_testing.h"

namespace strata::draft {
namespace {

using testing::BuildSnapshot;
using testing::Documents;
using testing::RandomDocuments;
using testing::ReadFile;
using testing::Reference;
using testing::TempDir;
using testing::Tokens;
using testing::ToString;

constexpr size_t kCache = 4 << 20;

BuilderOptions Named(const std::string& name) {
  BuilderOptions options;
  options.name = name;
  return options;
}

std::vector<Chain> Look(const CorpusTier& tier, const Tokens& context, int max_chains = 100,
                        int chain_length = kMaxDepth) {
  std::vector<Chain> chains;
  tier.Lookup(context, max_chains, chain_length, chains);
  return chains;
}

// Contexts from the documents, with a changed token here and there, of any length.
Tokens RandomContext(std::mt19937_64& random, const Documents& documents, int vocab_size) {
  Tokens context = documents[random() % documents.size()];
  context.resize(random() % (context.size() + 1));
  if (random() % 3 == 0 && !context.empty()) {
    context[random() % context.size()] = static_cast<TokenId>(random() % vocab_size);
  }
  return context;
}

TEST(Snapshot, LookupEqualsTheReference) {
  std::mt19937_64 random(1);
  for (const std::vector<int>& orders :
       {std::vector<int>{1, 2, 3, 4, 5, 6}, {1}, {2, 5}, {3, 16}}) {
    for (int vocab_size : {4, 40, 5000}) {
      TempDir root;
      BuilderOptions options = Named("s");
      options.count.orders = orders;
      options.count.top = 1 + static_cast<int>(random() % 9);
      options.count.depth = 1 + static_cast<int>(random() % 5);
      options.count.prune_count = 1 + random() % 2;
      const Documents documents = RandomDocuments(random(), 60, vocab_size);
      const Reference reference(documents, options.count);
      BuildSnapshot(root.path(), documents, vocab_size, options);
      auto tier = CorpusTier::Open(root.path(), kCache);
      ASSERT_TRUE(tier.ok()) << tier.status();
      EXPECT_EQ((*tier)->max_order(), orders.back());
      int found = 0;
      for (int round = 0; round < 300; ++round) {
        const Tokens context = RandomContext(random, documents, vocab_size);
        const int max_chains = 1 + static_cast<int>(random() % 12);
        const int chain_length = 1 + static_cast<int>(random() % 6);
        const auto chains = Look(**tier, context, max_chains, chain_length);
        EXPECT_EQ(ToString(chains), ToString(reference.Lookup(context, max_chains, chain_length)))
            << ::testing::PrintToString(context);
        found += !chains.empty();
      }
      EXPECT_GT(found, 20);
      EXPECT_EQ((*tier)->damaged_values(), 0u);
    }
  }
}

TEST(Snapshot, LookupOfOddContexts) {
  TempDir root;
  BuildSnapshot(root.path(), {{1, 2, 3, 4}, {1, 2, 3, 5}}, 10, Named("s"));
  auto tier = CorpusTier::Open(root.path(), kCache);
  ASSERT_TRUE(tier.ok()) << tier.status();
  EXPECT_TRUE(Look(**tier, {}).empty());
  EXPECT_TRUE(Look(**tier, {1, 2}, 0).empty());
  EXPECT_TRUE(Look(**tier, {1, 2}, -1).empty());
  EXPECT_TRUE(Look(**tier, {1, 2}, 4, 0).empty());
  EXPECT_TRUE(Look(**tier, {4}).empty());
  for (TokenId token : {-1, 10, (1 << 24) + 2, std::numeric_limits<TokenId>::min()}) {
    EXPECT_TRUE(Look(**tier, {1, token}).empty()) << token;
    // What lies behind a token out of range still counts.
    EXPECT_EQ(ToString(Look(**tier, {1, token, 2})), "1:2/2 [ 3 4 ] ") << token;
  }
  // Appends, and a chain of the caller's is none of its own.
  std::vector<Chain> chains = {{{3, 4}, 1, 1, 9}};
  (*tier)->Lookup(Tokens{1, 2}, 1, 2, chains);
  EXPECT_EQ(ToString(chains), "9:1/1 [ 3 4 ] 2:2/2 [ 3 4 ] ");
}

TEST(Snapshot, ContextsDoNotReachAcrossDocuments) {
  TempDir root;
  BuildSnapshot(root.path(), {{1, 2}, {3, 4}}, 10, Named("s"));
  auto tier = CorpusTier::Open(root.path(), kCache);
  ASSERT_TRUE(tier.ok()) << tier.status();
  EXPECT_TRUE(Look(**tier, {1, 2}).empty());
  EXPECT_EQ(ToString(Look(**tier, {2, 3})), "1:1/1 [ 4 ] ");
}

TEST(Snapshot, SaysWhatItWasBuiltFrom) {
  TempDir root;
  BuildSnapshot(root.path(), {{1, 2, 3}, {4}}, 10, Named("first"));
  for (const std::string& dir : {root.path(), root / "first", root / "first/"}) {
    auto tier = CorpusTier::Open(dir, kCache);
    ASSERT_TRUE(tier.ok()) << tier.status();
    EXPECT_EQ((*tier)->tokenizer_fingerprint(), "0123456789abcdef0123456789abcdef");
    EXPECT_EQ((*tier)->snapshot_name(), "first");
    EXPECT_EQ((*tier)->token_count(), 4u);
    EXPECT_EQ((*tier)->vocab_size(), 10);
    EXPECT_EQ((*tier)->kind(), TierKind::kCorpus);
  }
}

// The same documents, whatever the memory and the order, give the same files.
TEST(Snapshot, BuildsAreDeterministicToTheByte) {
  TempDir root;
  Documents documents = RandomDocuments(5, 300, 200);
  BuilderOptions options = Named("a");
  options.sst_bytes = 20000;  // several files an order
  const Manifest a = BuildSnapshot(root.path(), documents, 200, options);
  options.name = "b";
  options.memory_bytes = 64 << 10;
  std::shuffle(documents.begin(), documents.end(), std::mt19937_64(1));
  BuildSnapshot(root.path(), documents, 200, options);
  int files = 0;
  for (const Manifest::File& file : a.files) {
    if (!file.path.ends_with(".sst")) continue;
    ++files;
    EXPECT_EQ(ReadFile(root / ("a/" + file.path)), ReadFile(root / ("b/" + file.path)))
        << file.path;
  }
  EXPECT_GT(files, 10);
  auto tier = CorpusTier::Open(root / "b", kCache);
  ASSERT_TRUE(tier.ok()) << tier.status();
  const Reference reference(documents, options.count);
  for (const Tokens& context : reference.Contexts()) {
    ASSERT_EQ(ToString(Look(**tier, context, 100, 4)), ToString(reference.Lookup(context, 100, 4)));
  }
}

// Different contents, equal session ids would make one file's blocks answer for another's.
TEST(Snapshot, FilesHaveDifferentSessionIds) {
  TempDir root;
  const Manifest manifest = BuildSnapshot(root.path(), RandomDocuments(6, 50, 50), 50, Named("s"));
  std::vector<std::string> ids;
  for (const Manifest::File& file : manifest.files) {
    if (!file.path.ends_with(".sst")) continue;
    const std::string bytes = ReadFile(root / ("s/" + file.path));
    const std::string name = "session.identity";
    const size_t at = bytes.find(name);
    ASSERT_NE(at, bytes.npos);
    ids.push_back(bytes.substr(at + name.size(), 20));
  }
  std::sort(ids.begin(), ids.end());
  EXPECT_EQ(std::unique(ids.begin(), ids.end()), ids.end());
  EXPECT_EQ(ids.size(), 6u);
}

TEST(Snapshot, CurrentMovesAndOldReadersStay) {
  TempDir root;
  BuildSnapshot(root.path(), {{1, 2, 3}}, 10, Named("old"));
  auto old = CorpusTier::Open(root.path(), kCache);
  ASSERT_TRUE(old.ok());
  BuildSnapshot(root.path(), {{1, 7, 3}}, 10, Named("new"));
  auto now = CorpusTier::Open(root.path(), kCache);
  ASSERT_TRUE(now.ok());
  EXPECT_EQ((*now)->snapshot_name(), "new");
  EXPECT_EQ(ToString(Look(**old, {1})), "1:1/1 [ 2 3 ] ");
  EXPECT_EQ(ToString(Look(**now, {1})), "1:1/1 [ 7 3 ] ");
}

TEST(Snapshot, ManyThreadsReadOneTier) {
  TempDir root;
  const Documents documents = RandomDocuments(8, 100, 100);
  BuildSnapshot(root.path(), documents, 100, Named("s"));
  const Reference reference(documents, CountOptions());
  // A cache too small for anything, so that blocks come and go.
  auto tier = CorpusTier::Open(root.path(), 1024);
  ASSERT_TRUE(tier.ok());
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      for (int round = 0; round < 100; ++round) {
        const Tokens context = RandomContext(random, documents, 100);
        wrong += ToString(Look(**tier, context, 7, 4)) != ToString(reference.Lookup(context, 7, 4));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Snapshot, SeveralProcessesReadOneSnapshotAndWriteNothing) {
  TempDir root;
  BuildSnapshot(root.path(), {{1, 2, 3, 4}}, 10, Named("s"));
  const auto listing = [&] {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root.path())) {
      names.push_back(entry.path().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  };
  const auto before = listing();
  // Each reader keeps the snapshot open until all have read: they overlap.
  int all_open[2];
  ASSERT_EQ(pipe(all_open), 0);
  std::vector<pid_t> readers;
  for (int i = 0; i < 3; ++i) {
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      close(all_open[1]);
      auto tier = CorpusTier::Open(root.path(), kCache);
      bool right = tier.ok() && ToString(Look(**tier, {1, 2})) == "2:1/1 [ 3 4 ] ";
      char byte;
      right = read(all_open[0], &byte, 1) == 0 && right;
      _exit(right ? 0 : 1);
    }
    readers.push_back(pid);
  }
  auto tier = CorpusTier::Open(root.path(), kCache);
  EXPECT_TRUE(tier.ok()) << tier.status();
  close(all_open[1]);
  for (pid_t pid : readers) {
    int status = -1;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  close(all_open[0]);
  EXPECT_EQ(listing(), before);
}

TEST(SnapshotBuilder, RefusesWhatCannotBeASnapshot) {
  TempDir root;
  const auto create = [&](auto change) {
    BuilderOptions options = Named("s");
    int64_t vocab_size = 10;
    change(options, vocab_size);
    return SnapshotBuilder::Create(root.path(), "f", vocab_size, options).status();
  };
  using Options = BuilderOptions;
  for (const char* name : {".", "..", "a/b", ".hidden", "CURRENT", "a b", "ä"}) {
    EXPECT_EQ(create([&](Options& o, int64_t&) { o.name = name; }).code(),
              absl::StatusCode::kInvalidArgument)
        << name;
  }
  for (int64_t vocab_size : {int64_t{0}, int64_t{-1}, kMaxVocab + 1}) {
    EXPECT_EQ(create([&](Options&, int64_t& v) { v = vocab_size; }).code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(create([](Options& o, int64_t&) { o.memory_bytes = 1; }).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create([](Options& o, int64_t&) { o.count.top = 0; }).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(std::filesystem::is_empty(root.path()));
  BuildSnapshot(root.path(), {{1, 2}}, 10, Named("s"));
  EXPECT_EQ(create([](Options&, int64_t&) {}).code(), absl::StatusCode::kAlreadyExists);
  // The snapshot that is there was not touched.
  EXPECT_TRUE(CorpusTier::Open(root.path(), kCache).ok());
  const auto inside = SnapshotBuilder::Create(root / "s", "f", 10, Named("t")).status();
  EXPECT_EQ(inside.code(), absl::StatusCode::kInvalidArgument);
}

TEST(SnapshotBuilder, AFailedBuildLeavesNothingAndMovesNothing) {
  TempDir root;
  BuildSnapshot(root.path(), {{1, 2}}, 10, Named("good"));
  const auto finish = [&](const Documents& documents, uint64_t prune_count) {
    BuilderOptions options = Named("bad");
    options.count.prune_count = prune_count;
    auto builder = SnapshotBuilder::Create(root.path(), "f", 10, options);
    EXPECT_TRUE(builder.ok()) << builder.status();
    for (const Tokens& document : documents) {
      EXPECT_TRUE((*builder)->AddDocument(document).ok());
    }
    return (*builder)->Finish().status().code();
  };
  EXPECT_EQ(finish({}, 1), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(finish({{}, {}}, 1), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(finish({{1}, {2}}, 1), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(finish({{1, 2, 3}}, 2), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(std::filesystem::exists(root / "bad"));
  EXPECT_EQ(ReadFile(root / "CURRENT"), "good\n");
}

TEST(SnapshotBuilder, UnnamedBuildsOfOneSecondDoNotClash) {
  TempDir root;
  for (int i = 0; i < 3; ++i) BuildSnapshot(root.path(), {{1, 2}}, 10, Named(""));
  int folders = 0;
  for (const auto& entry : std::filesystem::directory_iterator(root.path())) {
    folders += entry.is_directory();
  }
  EXPECT_EQ(folders, 3);
  EXPECT_TRUE(CorpusTier::Open(root.path(), kCache).ok());
}

TEST(SnapshotVerifier, CountsEverything) {
  TempDir root;
  const Documents documents = RandomDocuments(9, 100, 30);
  const Manifest manifest = BuildSnapshot(root.path(), documents, 30, Named("s"));
  const Reference reference(documents, CountOptions());
  uint64_t continuations = 0;
  for (const Tokens& context : reference.Contexts()) {
    ContextValue value;
    reference.Find(context, value);
    continuations += value.branches.size();
  }
  const auto report = VerifySnapshot(root / "s", [](double) {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->contexts, reference.Contexts().size());
  EXPECT_EQ(report->contexts, manifest.context_count());
  EXPECT_EQ(report->continuations, continuations);
}

}  // namespace
}  // namespace strata::draft
