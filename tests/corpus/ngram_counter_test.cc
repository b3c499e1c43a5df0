#include "services/draft/corpus/ngram_counter.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <random>

#include "services/draft/corpus/run_file.h"
#include "tests/corpus/corpus_testing.h"

namespace strata::draft {
namespace {

using testing::Documents;
using testing::RandomDocuments;
using testing::Reference;
using testing::TempDir;
using testing::Tokens;
using testing::ToString;

struct Counted {
  std::map<Tokens, std::string> contexts;
  int spilled_runs = 0;
};

Counted Count(const Documents& documents, const CountOptions& options, int64_t vocab_size,
              size_t memory) {
  TempDir dir;
  NgramCounter counter(options, vocab_size, memory, dir.path());
  for (const Tokens& document : documents) {
    const absl::Status status = counter.Add(document);
    EXPECT_TRUE(status.ok()) << status;
  }
  Counted counted;
  std::map<size_t, Tokens> last;
  const absl::Status status = counter.Finish(
      [&](std::span<const TokenId> context, const ContextValue& value) {
        const Tokens tokens(context.begin(), context.end());
        // Ascending within each order, as the SST files need them.
        Tokens& before = last[tokens.size()];
        EXPECT_LT(before, tokens);
        before = tokens;
        counted.contexts[tokens] = ToString(value);
        return absl::OkStatus();
      },
      [](double) {});
  EXPECT_TRUE(status.ok()) << status;
  counted.spilled_runs = counter.spilled_runs();
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  return counted;
}

void ExpectEqualsReference(const Documents& documents, const CountOptions& options,
                           int64_t vocab_size, size_t memory) {
  const Reference reference(documents, options);
  const Counted counted = Count(documents, options, vocab_size, memory);
  const std::vector<Tokens> contexts = reference.Contexts();
  EXPECT_EQ(counted.contexts.size(), contexts.size());
  for (const Tokens& context : contexts) {
    ContextValue expected;
    ASSERT_TRUE(reference.Find(context, expected));
    const auto at = counted.contexts.find(context);
    ASSERT_NE(at, counted.contexts.end()) << ::testing::PrintToString(context);
    EXPECT_EQ(at->second, ToString(expected)) << ::testing::PrintToString(context);
  }
}

TEST(NgramCounter, EqualsCountingEveryNgram) {
  std::mt19937_64 random(1);
  // From two tokens, where everything recurs, to ids that need 24 bits (two symbols a key).
  for (int vocab_size : {2, 3, 10, 300, 1 << 16, 1 << 24}) {
    for (int round = 0; round < 4; ++round) {
      CountOptions options;
      options.orders.clear();
      for (int order = 1; order <= 8; ++order) {
        if (random() % 2 == 0) options.orders.push_back(order);
      }
      if (options.orders.empty()) options.orders = {static_cast<int>(1 + random() % kMaxOrder)};
      options.top = 1 + static_cast<int>(random() % 9);
      options.depth = 1 + static_cast<int>(random() % kMaxDepth);
      options.prune_count = 1 + random() % 3;
      SCOPED_TRACE(::testing::Message()
                   << "vocab " << vocab_size << " orders "
                   << ::testing::PrintToString(options.orders) << " top " << options.top
                   << " depth " << options.depth << " prune " << options.prune_count);
      const Documents documents = RandomDocuments(random(), 40, vocab_size);
      ExpectEqualsReference(documents, options, vocab_size, 1 << 20);
      ExpectEqualsReference(documents, options, vocab_size, 1);
    }
  }
}

TEST(NgramCounter, LittleMemoryAndAnotherOrderOfDocumentsChangeNothing) {
  Documents documents = RandomDocuments(7, 600, 50);
  const CountOptions options;
  const Counted high = Count(documents, options, 50, 1 << 24);
  EXPECT_EQ(high.spilled_runs, 0);
  // So many runs that they must be merged in several passes.
  const Counted low = Count(documents, options, 50, 64);
  EXPECT_GT(low.spilled_runs, 600);
  EXPECT_EQ(low.contexts, high.contexts);
  std::shuffle(documents.begin(), documents.end(), std::mt19937_64(3));
  EXPECT_EQ(Count(documents, options, 50, 20000).contexts, high.contexts);
}

TEST(NgramCounter, RefusesTokensOutOfRange) {
  TempDir dir;
  NgramCounter counter(CountOptions(), 10, 1 << 20, dir.path());
  for (TokenId token : {-1, 10, 1 << 30}) {
    const Tokens document = {1, token};
    EXPECT_EQ(counter.Add(document).code(), absl::StatusCode::kInvalidArgument) << token;
  }
  EXPECT_EQ(counter.token_count(), 0u);
}

TEST(NgramCounter, ReportsADiskThatCannotBeWritten) {
  TempDir dir;
  NgramCounter counter(CountOptions(), 10, 1, dir / "no/such/folder");
  const Tokens document = {1, 2, 3};
  ASSERT_TRUE(counter.Add(document).ok());
  const absl::Status status = counter.Add(document);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << status;
}

TEST(NgramCounter, StopsAtTheSinksError) {
  TempDir dir;
  NgramCounter counter(CountOptions(), 10, 1 << 20, dir.path());
  const Tokens document = {1, 2, 3, 4, 5};
  ASSERT_TRUE(counter.Add(document).ok());
  int calls = 0;
  const absl::Status status = counter.Finish(
      [&](std::span<const TokenId>, const ContextValue&) {
        ++calls;
        return absl::ResourceExhaustedError("full");
      },
      [](double) {});
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(calls, 1);
}

TEST(RunFile, EveryTruncationIsFound) {
  TempDir dir;
  const std::string path = dir / "run";
  auto writer = RunWriter::Create(path);
  ASSERT_TRUE(writer.ok());
  const Documents windows = {{1}, {1, 2}, {1, 2, 300}, {70000}};
  for (const Tokens& window : windows) ASSERT_TRUE((*writer)->Add(window, 500).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
  const std::string whole = testing::ReadFile(path);
  const std::vector<std::string> paths = {path};
  Documents read;
  const auto sink = [&](std::span<const TokenId> window, uint64_t count) {
    read.emplace_back(window.begin(), window.end());
    EXPECT_EQ(count, 500u);
    return absl::OkStatus();
  };
  ASSERT_TRUE(MergeRuns(paths, sink).ok());
  EXPECT_EQ(read, windows);
  for (size_t size = 0; size < whole.size(); ++size) {
    testing::WriteFile(path, whole.substr(0, size));
    EXPECT_EQ(MergeRuns(paths, sink).code(), absl::StatusCode::kDataLoss) << size;
  }
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
  EXPECT_EQ(message([](CountOptions& o) { o.orders = {17}; }), "orders: 17 is not in 1 to 16");
  EXPECT_EQ(message([](CountOptions& o) {
              o.orders = {2, 2};
            }),
            "orders: must be ascending and distinct");
  EXPECT_EQ(message([](CountOptions& o) { o.top = 65; }), "top: 65 is not in 1 to 64");
  EXPECT_EQ(message([](CountOptions& o) { o.depth = 0; }), "depth: 0 is not in 1 to 8");
  EXPECT_EQ(message([](CountOptions& o) { o.prune_count = 0; }), "prune-count: must be at least 1");
}

}  // namespace
}  // namespace strata::draft
