#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <limits>
#include <random>
#include <thread>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "services/draft/corpus/corpus_tier.h"
#include "services/draft/corpus/snapshot_verifier.h"
#include "tests/corpus/corpus_testing.h"

namespace strata::draft {
namespace {

using testing::AllFiles;
using testing::Ask;
using testing::BuildSnapshot;
using testing::Documents;
using testing::RandomDocuments;
using testing::ReadFile;
using testing::Reference;
using testing::SstFiles;
using testing::TempDir;
using testing::Tokens;
using testing::ToString;

constexpr size_t kCache = 4 << 20;

BuilderOptions Named(const std::string& name) {
  BuilderOptions options;
  options.name = name;
  return options;
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

TEST(Snapshot, MatchEqualsTheReference) {
  std::mt19937_64 random(1);
  for (int max_order : {1, 2, 6, 8}) {
    for (int vocab_size : {4, 40, 5000}) {
      TempDir root;
      BuilderOptions options = Named("s");
      options.count.max_order = max_order;
      options.count.top = 1 + static_cast<int>(random() % 8);
      options.count.prune_count = 1 + random() % 3;
      options.count.prune_continuations = 1 + random() % 2;
      options.part_windows = 200;
      options.sst_bytes = 3000;
      const Documents documents = RandomDocuments(random(), 200, vocab_size);
      const Reference reference(documents, options.count);
      BuildSnapshot(root.path(), documents, vocab_size, options);
      // No cache of contexts at all; one so small that contexts come and go; one for all of them.
      for (size_t cache : {size_t{0}, size_t{16} << 10, kCache}) {
        auto tier = CorpusTier::Open(root.path(), cache);
        ASSERT_TRUE(tier.ok()) << tier.status();
        EXPECT_EQ((*tier)->max_order(), max_order);
        int found = 0;
        for (int round = 0; round < 40; ++round) {
          // Batches of every size, with repetitions, against one by one.
          std::vector<Tokens> contexts;
          std::vector<ContextTail> tails;
          std::vector<MatchQuery> queries;
          for (uint64_t i = 0; i < 1 + random() % 40; ++i) {
            contexts.push_back(RandomContext(random, documents, vocab_size));
            tails.emplace_back(contexts.back());
          }
          for (const ContextTail& tail : tails) {
            queries.push_back({&tail, 1 + static_cast<int>(random() % kMaxContextOrder)});
          }
          const int levels = 1 + static_cast<int>(random() % kMaxLevels);
          std::vector<Evidence> answers(queries.size());
          (*tier)->Match(queries, levels, answers);
          for (size_t i = 0; i < queries.size(); ++i) {
            EXPECT_EQ(ToString(answers[i]),
                      ToString(reference.Match(contexts[i], queries[i].max_order, levels)))
                << ::testing::PrintToString(contexts[i]);
            found += answers[i].levels;
          }
        }
        EXPECT_GT(found, 100);
        EXPECT_EQ((*tier)->damaged_values(), 0u);
      }
    }
  }
}

TEST(Snapshot, MatchOfOddContexts) {
  TempDir root;
  BuilderOptions options = Named("s");
  options.count.prune_count = 1;
  BuildSnapshot(root.path(), {{1, 2, 3, 4}, {1, 2, 3, 5}}, 10, options);
  auto tier = CorpusTier::Open(root.path(), kCache);
  ASSERT_TRUE(tier.ok()) << tier.status();
  EXPECT_EQ(Ask(**tier, {}).levels, 0);
  EXPECT_EQ(Ask(**tier, {4}).levels, 0);
  EXPECT_EQ(Ask(**tier, {1, 2}, 0).levels, 0);
  EXPECT_EQ(Ask(**tier, {1, 2}, -1).levels, 0);
  for (TokenId token : {-1, 10, (1 << 24) + 2, std::numeric_limits<TokenId>::min()}) {
    EXPECT_EQ(Ask(**tier, {1, token}).levels, 0) << token;
    // What lies behind a token out of range still counts.
    EXPECT_EQ(ToString(Ask(**tier, {1, token, 2})), "1: 2 [ 3:2 ] ") << token;
  }
  (*tier)->Match({}, 1, {});
}

TEST(Snapshot, ContextsDoNotReachAcrossDocuments) {
  TempDir root;
  BuilderOptions options = Named("s");
  options.count.prune_count = 1;
  BuildSnapshot(root.path(), {{1, 2}, {3, 4}}, 10, options);
  auto tier = CorpusTier::Open(root.path(), kCache);
  ASSERT_TRUE(tier.ok()) << tier.status();
  EXPECT_EQ(Ask(**tier, {1, 2}).levels, 0);
  EXPECT_EQ(ToString(Ask(**tier, {2, 3})), "1: 1 [ 4:1 ] ");
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

// The same documents, whatever the memory, the threads, the order and the time, give the same
// files.
TEST(Snapshot, BuildsAreDeterministicToTheByte) {
  for (const bool shard : {false, true}) {
    TempDir root;
    Documents documents = RandomDocuments(5, 300, 200);
    BuilderOptions options = Named("a");
    options.count.shard = shard;
    options.sst_bytes = 4000;  // several files an order
    options.part_windows = 1000;
    BuildSnapshot(root.path(), documents, 200, options);
    options.name = "b";
    options.memory_bytes = 64 << 10;
    options.threads = 3;
    std::shuffle(documents.begin(), documents.end(), std::mt19937_64(1));
    // RocksDB's times are in seconds.
    absl::SleepFor(absl::Milliseconds(1100));
    BuildSnapshot(root.path(), documents, 200, options);
    EXPECT_EQ(AllFiles(root / "a"), AllFiles(root / "b"));
    EXPECT_GT(SstFiles(root / "a").size(), 10u);
    EXPECT_EQ(std::filesystem::exists(root / "CURRENT"), !shard);
  }
}

TEST(Snapshot, CurrentMovesAndOldReadersStay) {
  TempDir root;
  BuildSnapshot(root.path(), {{1, 2, 3}}, 10, Named("old"));
  auto cache = std::make_shared<CorpusCache>(kCache);
  auto old = CorpusTier::Open(root.path(), cache);
  ASSERT_TRUE(old.ok());
  BuildSnapshot(root.path(), {{1, 7, 3}}, 10, Named("new"));
  auto now = CorpusTier::Open(root.path(), cache);
  ASSERT_TRUE(now.ok());
  EXPECT_EQ((*now)->snapshot_name(), "new");
  // Both from one cache, in which they do not meet.
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(ToString(Ask(**old, {1})), "1: 1 [ 2:1 ] ");
    EXPECT_EQ(ToString(Ask(**now, {1})), "1: 1 [ 7:1 ] ");
  }
}

TEST(Snapshot, ManyThreadsReadOneTier) {
  TempDir root;
  const Documents documents = RandomDocuments(8, 100, 100);
  BuildSnapshot(root.path(), documents, 100, Named("s"));
  const Reference reference(documents, CountOptions());
  // A cache too small for all, so that blocks and contexts come and go under the readers.
  auto tier = CorpusTier::Open(root.path(), 8192);
  ASSERT_TRUE(tier.ok());
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      for (int round = 0; round < 1000; ++round) {
        const Tokens context = RandomContext(random, documents, 100);
        wrong += ToString(Ask(**tier, context)) != ToString(reference.Match(context, 8, 3));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Snapshot, SeveralProcessesReadOneSnapshotAndWriteNothing) {
  TempDir root;
  // Forked before this process has any thread, they wait for the snapshot; then each keeps it open
  // until all have read: they overlap.
  int built[2], all_open[2];
  ASSERT_EQ(pipe(built), 0);
  ASSERT_EQ(pipe(all_open), 0);
  const auto closed = [](int end) {
    char byte;
    return read(end, &byte, 1) == 0;
  };
  std::vector<pid_t> readers;
  for (int i = 0; i < 3; ++i) {
    const pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      close(built[1]);
      close(all_open[1]);
      bool right = closed(built[0]);
      auto tier = CorpusTier::Open(root.path(), kCache);
      right = right && tier.ok() && ToString(Ask(**tier, {1, 2})) == "2: 2 [ 3:2 ] 1: 2 [ 3:2 ] ";
      right = closed(all_open[0]) && right;
      _exit(right ? 0 : 1);
    }
    readers.push_back(pid);
  }
  BuildSnapshot(root.path(), {{1, 2, 3, 4}, {1, 2, 3}}, 10, Named("s"));
  const auto listing = [&] {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root.path())) {
      names.push_back(entry.path().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  };
  const auto before = listing();
  close(built[1]);
  auto tier = CorpusTier::Open(root.path(), kCache);
  EXPECT_TRUE(tier.ok()) << tier.status();
  close(all_open[1]);
  for (pid_t pid : readers) {
    int status = -1;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  close(built[0]);
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
  const auto finish = [&](const Documents& documents) {
    BuilderOptions options = Named("bad");
    auto builder = SnapshotBuilder::Create(root.path(), "f", 10, options);
    EXPECT_TRUE(builder.ok()) << builder.status();
    for (const Tokens& document : documents) {
      EXPECT_TRUE((*builder)->AddDocument(document).ok());
    }
    return (*builder)->Finish().status().code();
  };
  EXPECT_EQ(finish({}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(finish({{}, {}}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(finish({{1}, {2}}), absl::StatusCode::kFailedPrecondition);
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
    ContextCounts counts;
    reference.Find(context, counts);
    continuations += counts.size;
  }
  const auto report = VerifySnapshot(root / "s", [](double) {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->contexts, reference.Contexts().size());
  EXPECT_EQ(report->contexts, manifest.context_count());
  EXPECT_EQ(report->continuations, continuations);
}

}  // namespace
}  // namespace strata::draft
