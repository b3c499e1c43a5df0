// From documents to rows: the external sort and the trie, against counting in a map.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <random>

#include "services/draft/corpus/context_trie.h"
#include "services/draft/corpus/run_file.h"
#include "services/draft/corpus/staging.h"
#include "services/draft/corpus/window_spiller.h"
#include "tests/corpus/corpus_testing.h"

namespace strata::draft {
namespace {

using testing::Documents;
using testing::RandomDocuments;
using testing::Reference;
using testing::TempDir;
using testing::Tokens;
using testing::ToString;

using Windows = std::map<std::pair<Tokens, TokenId>, uint64_t>;

Windows Count(const Documents& documents, size_t max_order) {
  Windows windows;
  for (const Tokens& document : documents) {
    for (size_t at = 1; at < document.size(); ++at) {
      Tokens context;
      for (size_t i = at; i > 0 && context.size() < max_order; --i) {
        context.push_back(document[i - 1]);
      }
      ++windows[{context, document[at]}];
    }
  }
  return windows;
}

absl::Status Collect(const Window& window, Windows& out) {
  const Tokens context(window.context.begin(), window.context.end());
  // Ascending and distinct.
  EXPECT_TRUE(out.empty() || out.rbegin()->first < std::pair(context, window.next));
  out[{context, window.next}] = window.count;
  return absl::OkStatus();
}

// Spills everything, merges down to `fan_in` runs, and reads in ranges of `step` tokens.
Windows Spill(const Documents& documents, int max_order, int64_t vocab_size, size_t memory,
              size_t fan_in, TokenId step, size_t* runs = nullptr) {
  TempDir dir;
  auto staging = Staging::Open(dir.path(), "");
  EXPECT_TRUE(staging.ok()) << staging.status();
  WindowSpiller spiller(max_order, vocab_size, memory, staging->get());
  uint64_t tokens = 0;
  for (const Tokens& document : documents) {
    EXPECT_TRUE(spiller.Add({&document, 1}, 1, nullptr).ok());
    tokens += document.size();
  }
  EXPECT_TRUE(spiller.Flush().ok());
  if (runs != nullptr) *runs = (*staging)->runs().size();
  const absl::Status merged = (*staging)->MergeDown(fan_in, 100);
  EXPECT_TRUE(merged.ok()) << merged;
  EXPECT_LE((*staging)->runs().size(), fan_in);
  uint64_t counted = 0;
  for (const auto& run : (*staging)->runs()) counted += run->contents().tokens;
  EXPECT_EQ(counted, tokens);
  Windows windows;
  for (TokenId first = 0; first < vocab_size; first += step) {
    std::vector<std::unique_ptr<WindowCursor>> cursors;
    for (const auto& run : (*staging)->runs()) {
      cursors.push_back(RunFile::Read(run, first, first + step, 7));
    }
    const absl::Status status = MergeWindows(
        std::move(cursors), [&](const Window& window) { return Collect(window, windows); });
    EXPECT_TRUE(status.ok()) << status;
  }
  return windows;
}

TEST(Windows, EqualCountingInAMapWhateverTheMemory) {
  std::mt19937_64 random(1);
  // From two tokens, where everything recurs, to ids that need 24 bits (two symbols a sort key).
  for (int vocab_size : {2, 3, 10, 300, 1 << 16, 1 << 24}) {
    for (int max_order : {1, 2, 3, 4, 6, 8}) {
      SCOPED_TRACE(::testing::Message() << "vocab " << vocab_size << " order " << max_order);
      const Documents documents = RandomDocuments(random(), 40, vocab_size);
      const Windows expected = Count(documents, max_order);
      const TokenId step = std::max(1, vocab_size / 3);
      EXPECT_EQ(Spill(documents, max_order, vocab_size, 1 << 20, 2, step), expected);
      size_t runs = 0;
      EXPECT_EQ(Spill(documents, max_order, vocab_size, 1, 3, step, &runs), expected);
      EXPECT_GT(runs, 20u);
    }
  }
}

TEST(Windows, RefusesTokensOutOfRange) {
  TempDir dir;
  auto staging = Staging::Open(dir.path(), "");
  ASSERT_TRUE(staging.ok());
  WindowSpiller spiller(6, 10, 1 << 20, staging->get());
  for (TokenId token : {-1, 10, 1 << 30}) {
    const Tokens document = {1, token};
    EXPECT_EQ(spiller.Add({&document, 1}, 1, nullptr).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(spiller.Flush().ok());
  EXPECT_TRUE((*staging)->runs().empty());
}

TEST(Windows, ReportsADiskThatCannotBeWritten) {
  TempDir dir;
  auto staging = Staging::Open(dir / "snapshot", "");
  ASSERT_TRUE(staging.ok());
  std::filesystem::remove_all(dir / "snapshot");
  WindowSpiller spiller(6, 10, 1, staging->get());
  const Tokens document = {1, 2, 3};
  ASSERT_TRUE(spiller.Add({&document, 1}, 1, nullptr).ok());
  EXPECT_EQ(spiller.Add({&document, 1}, 1, nullptr).code(), absl::StatusCode::kNotFound);
}

// Every context of every row, with what it says; rows ascend by key.
std::map<Tokens, std::string> Rows(const Documents& documents, const CountOptions& options,
                                   int64_t vocab_size, int* rows) {
  std::map<Tokens, std::string> contexts;
  std::map<size_t, Tokens> last;
  *rows = 0;
  ContextTrie trie(options, [&](std::span<const TokenId> context, std::string_view row) {
    ++*rows;
    const Tokens first(context.begin(), context.end());
    EXPECT_LT(last[first.size()], first);
    last[first.size()] = first;
    return RowWalker::VisitAll(row, vocab_size, options.max_order - static_cast<int>(first.size()),
                               [&](std::span<const TokenId> below, const ContextNode& node) {
                                 Tokens key = first;
                                 key.insert(key.end(), below.begin(), below.end());
                                 ContextCounts counts;
                                 counts.order = static_cast<uint8_t>(key.size());
                                 counts.size = static_cast<uint8_t>(node.size);
                                 counts.total = static_cast<uint32_t>(node.total);
                                 for (int i = 0; i < node.size; ++i) {
                                   counts.continuations[i] = {
                                       node.ranked[i].token,
                                       static_cast<uint32_t>(node.ranked[i].count)};
                                 }
                                 std::reverse(key.begin(), key.end());
                                 EXPECT_TRUE(contexts.emplace(key, ToString(counts)).second);
                                 return absl::OkStatus();
                               });
  });
  for (const auto& [window, count] : Count(documents, options.max_order)) {
    const absl::Status status = trie.Add({window.first, window.second, count});
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_TRUE(trie.Finish().ok());
  std::map<size_t, uint64_t> orders;
  for (const auto& [context, counts] : contexts) ++orders[context.size()];
  for (int order = 1; order <= options.max_order; ++order) {
    EXPECT_EQ(trie.contexts(order), orders[order]);
  }
  return contexts;
}

TEST(ContextTrie, EqualsTheReferenceWithEveryOption) {
  std::mt19937_64 random(2);
  int rows = 0, shared = 0, pruned = 0;
  for (int vocab_size : {2, 10, 300, 1 << 24}) {
    for (int round = 0; round < 12; ++round) {
      CountOptions options;
      options.max_order = 1 + static_cast<int>(random() % kMaxContextOrder);
      options.top = 1 + static_cast<int>(random() % kMaxContinuations);
      options.prune_count = 1 + random() % 4;
      options.prune_continuations = 1 + random() % 3;
      SCOPED_TRACE(::testing::Message()
                   << "vocab " << vocab_size << " order " << options.max_order << " top "
                   << options.top << " prune " << options.prune_count << " "
                   << options.prune_continuations);
      const Documents documents = RandomDocuments(random(), round % 3 ? 40 : 400, vocab_size);
      const Reference reference(documents, options);
      const auto contexts = Rows(documents, options, vocab_size, &rows);
      ASSERT_EQ(contexts.size(), reference.Contexts().size());
      for (const auto& [context, counts] : contexts) {
        ContextCounts expected;
        ASSERT_TRUE(reference.Find(context, expected)) << ::testing::PrintToString(context);
        EXPECT_EQ(counts, ToString(expected)) << ::testing::PrintToString(context);
      }
      shared += rows < static_cast<int>(contexts.size()) ? 1 : 0;
      CountOptions all = options;
      all.prune_count = all.prune_continuations = 1;
      pruned += contexts.size() < Reference(documents, all).Contexts().size() ? 1 : 0;
    }
  }
  EXPECT_GT(shared, 20);
  EXPECT_GT(pruned, 20);
}

TEST(ContextTrie, StopsAtTheSinksError) {
  int calls = 0;
  ContextTrie trie(CountOptions(), [&](std::span<const TokenId>, std::string_view) {
    ++calls;
    return absl::ResourceExhaustedError("full");
  });
  const Tokens a = {1}, b = {2};
  ASSERT_TRUE(trie.Add({a, 3, 1}).ok());
  EXPECT_EQ(trie.Add({b, 3, 1}).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(calls, 1);
}

TEST(RunFile, EveryTruncationAndEveryFlippedByteIsFound) {
  TempDir dir;
  const std::string path = dir / "run-1";
  auto writer = RunWriter::Create(path);
  ASSERT_TRUE(writer.ok());
  const Documents contexts = {{1}, {1, 2}, {1, 2, 300}, {70000}};
  for (const Tokens& context : contexts) ASSERT_TRUE((*writer)->Add({context, 9, 500}).ok());
  EXPECT_FALSE(std::filesystem::exists(path));
  RunContents contents;
  contents.parts = {{3, 1, true, 7, false}, {4, 0, true, 0, true}};
  contents.documents = 5;
  contents.tokens = 6;
  contents.replaces = {8};
  ASSERT_TRUE((*writer)->Finish(contents).ok());
  auto run = RunFile::Open(path);
  ASSERT_TRUE(run.ok()) << run.status();
  ASSERT_EQ((*run)->sections().size(), 2u);
  EXPECT_EQ((*run)->sections()[0].windows, 1500u);
  EXPECT_EQ((*run)->contents().documents, 5u);
  ASSERT_EQ((*run)->contents().parts.size(), 2u);
  EXPECT_EQ((*run)->contents().parts[0].skipped_lines, 7u);
  EXPECT_TRUE((*run)->contents().parts[1].skipped_binary);
  EXPECT_EQ((*run)->contents().replaces, std::vector<uint64_t>{8});
  const std::string whole = testing::ReadFile(path);
  for (size_t size = 0; size < whole.size(); ++size) {
    testing::WriteFile(path, whole.substr(0, size));
    EXPECT_EQ(RunFile::Open(path).status().code(), absl::StatusCode::kDataLoss) << size;
  }
  for (size_t byte = 0; byte < whole.size(); ++byte) {
    std::string damaged = whole;
    damaged[byte] = static_cast<char>(damaged[byte] ^ 0x80);
    testing::WriteFile(path, damaged);
    auto opened = RunFile::Open(path);
    if (!opened.ok()) {
      EXPECT_EQ(opened.status().code(), absl::StatusCode::kDataLoss) << byte;
      continue;
    }
    std::vector<std::unique_ptr<WindowCursor>> cursors;
    cursors.push_back(RunFile::Read(*opened, 0, 1 << 24, 16));
    const absl::Status status =
        MergeWindows(cursors, [](const Window&) { return absl::OkStatus(); });
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << byte;
  }
}

TEST(Staging, KeepsRunsOfTheSameJobAlone) {
  TempDir dir;
  const Tokens document = {1, 2, 3};
  const auto build = [&](const std::string& job, uint64_t file) {
    auto staging = Staging::Open(dir / "s", job);
    ASSERT_TRUE(staging.ok()) << staging.status();
    // One at a time.
    EXPECT_EQ(Staging::Open(dir / "s", job).status().code(), absl::StatusCode::kFailedPrecondition);
    WindowSpiller spiller(6, 10, 1, staging->get());
    const InputPart first{file, 0, false, 0, false}, second{file, 1, true, 0, false};
    ASSERT_TRUE(spiller.Add({&document, 1}, 1, &first).ok());
    ASSERT_TRUE(spiller.Add({&document, 1}, 1, &second).ok());
    ASSERT_TRUE(spiller.Flush().ok());
  };
  build("a", 0);
  build("a", 1);
  testing::WriteFile(dir / "s/rocksdb/000001.sst", "x");
  testing::WriteFile(dir / "s/staging/run-9.tmp", "x");
  {
    auto staging = Staging::Open(dir / "s", "a");
    ASSERT_TRUE(staging.ok());
    EXPECT_EQ((*staging)->resumed_runs(), 4u);
    EXPECT_TRUE((*staging)->HasPart(0, 1));
    EXPECT_FALSE((*staging)->HasPart(0, 2));
    EXPECT_TRUE((*staging)->HasFile(1));
    EXPECT_FALSE((*staging)->HasFile(2));
    EXPECT_FALSE(std::filesystem::exists(dir / "s/rocksdb"));
    EXPECT_FALSE(std::filesystem::exists(dir / "s/staging/run-9.tmp"));
  }
  // A run that is damaged is counted again.
  testing::FlipBit(dir / "s/staging/run-2", std::filesystem::file_size(dir / "s/staging/run-2") - 1,
                   0);
  {
    auto staging = Staging::Open(dir / "s", "a");
    ASSERT_TRUE(staging.ok());
    EXPECT_EQ((*staging)->resumed_runs(), 3u);
    EXPECT_FALSE((*staging)->HasFile(0));
    EXPECT_TRUE((*staging)->HasFile(1));
  }
  auto staging = Staging::Open(dir / "s", "b");
  ASSERT_TRUE(staging.ok());
  EXPECT_EQ((*staging)->resumed_runs(), 0u);
  EXPECT_TRUE((*staging)->runs().empty());
}

// Killed between the merged run's becoming whole and the removal of what it replaces.
TEST(Staging, AMergedRunCountsOnceWhateverIsLeftOfItsSources) {
  TempDir dir;
  const Tokens document = {1, 2, 3};
  {
    auto staging = Staging::Open(dir / "s", "a");
    ASSERT_TRUE(staging.ok());
    WindowSpiller spiller(6, 10, 1, staging->get());
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(spiller.Add({&document, 1}, 1, nullptr).ok());
    ASSERT_TRUE(spiller.Flush().ok());
    std::filesystem::copy_file(dir / "s/staging/run-1", dir / "kept");
    ASSERT_TRUE((*staging)->MergeDown(2, 100).ok());
  }
  std::filesystem::copy_file(dir / "kept", dir / "s/staging/run-1");
  auto staging = Staging::Open(dir / "s", "a");
  ASSERT_TRUE(staging.ok());
  uint64_t documents = 0;
  for (const auto& run : (*staging)->runs()) documents += run->contents().documents;
  EXPECT_EQ(documents, 3u);
}

TEST(CountOptions, EveryBoundIsChecked) {
  const auto message = [](auto change) {
    CountOptions options;
    change(options);
    const absl::Status status = ValidateCountOptions(options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_TRUE(ValidateCountOptions(CountOptions()).ok());
  EXPECT_EQ(message([](CountOptions& o) { o.max_order = 9; }),
            "orders: up to 9; 1 to 8 is the longest context allowed");
  EXPECT_EQ(message([](CountOptions& o) { o.top = 9; }), "top: 9 is not in 1 to 8");
  EXPECT_EQ(message([](CountOptions& o) { o.prune_count = 0; }), "prune-count: must be at least 1");
  EXPECT_EQ(message([](CountOptions& o) { o.prune_continuations = 0; }),
            "prune-continuations: must be at least 1");
}

}  // namespace
}  // namespace strata::draft
