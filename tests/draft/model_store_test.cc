#include "services/draft/tiers/model_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const ModelKey kAlice = {"model", "fp", "alice"};
const ModelKey kBob = {"model", "fp", "bob"};

std::unique_ptr<ModelStore> OpenOrDie(const ModelStoreOptions& options,
                                      std::vector<std::string>* warnings = nullptr) {
  std::vector<std::string> ignored;
  auto store = ModelStore::Open(options, warnings == nullptr ? &ignored : warnings);
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *std::move(store) : nullptr;
}

void Teach(ModelStore& store, const ModelKey& key, const Tokens& tokens) {
  store.Learn(key, tokens, 0, static_cast<uint32_t>(tokens.size()));
}

// What follows the longest match, each continued by what most recently followed it.
std::vector<Tokens> Ask(const ModelStore& store, const ModelKey& key, const Tokens& context) {
  const std::shared_ptr<const Tier> tier = store.Find(key);
  std::vector<Tokens> chains;
  if (tier == nullptr) return chains;
  const auto match = [&](const ContextTail& tail) {
    const MatchQuery query = {&tail, kMaxContextOrder};
    Evidence evidence;
    tier->Match({&query, 1}, 1, {&evidence, 1});
    return evidence;
  };
  const Evidence first = match(ContextTail(context));
  if (first.levels == 0) return chains;
  for (const Continuation& next : first.level[0].list()) {
    Tokens chain = {next.token};
    ContextTail tail = ContextTail(context).Extended(next.token);
    for (Evidence more = match(tail); chain.size() < 4 && more.levels > 0; more = match(tail)) {
      chain.push_back(more.level[0].continuations[0].token);
      tail = tail.Extended(chain.back());
    }
    chains.push_back(chain);
  }
  return chains;
}

std::vector<fs::path> FilesEndingIn(const fs::path& folder, const std::string& end) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().string();
    if (name.size() >= end.size() && name.substr(name.size() - end.size()) == end) {
      files.push_back(entry.path());
    }
  }
  return files;
}

TEST(ModelStoreTest, TenantsModelsAndTokenizersAreApart) {
  const auto store = OpenOrDie({});
  Teach(*store, kAlice, {1, 2, 3});
  EXPECT_EQ(Ask(*store, kAlice, {1}), (std::vector<Tokens>{{2, 3}}));
  EXPECT_TRUE(Ask(*store, kBob, {1}).empty());
  EXPECT_TRUE(Ask(*store, {"model", "fp", ""}, {1}).empty());
  EXPECT_TRUE(Ask(*store, {"other", "fp", "alice"}, {1}).empty());
  EXPECT_TRUE(Ask(*store, {"model", "other", "alice"}, {1}).empty());
  Teach(*store, kBob, {1, 7});
  EXPECT_EQ(Ask(*store, kAlice, {1}), (std::vector<Tokens>{{2, 3}}));
  EXPECT_EQ(Ask(*store, kBob, {1}), (std::vector<Tokens>{{7}}));
}

TEST(ModelStoreTest, KeysWhoseFieldsRunTogetherHaveTheirOwnFiles) {
  const TemporaryFolder folder;
  const ModelStoreOptions options = {.dir = folder.path()};
  const ModelKey first = {"ab", "c", ""}, second = {"a", "bc", ""}, third = {"a", "b", "c"};
  {
    const auto store = OpenOrDie(options);
    Teach(*store, first, {1, 10});
    Teach(*store, second, {1, 20});
    Teach(*store, third, {1, 30});
    ASSERT_TRUE(store->Save().ok());
  }
  const auto store = OpenOrDie(options);
  EXPECT_EQ(Ask(*store, first, {1}), (std::vector<Tokens>{{10}}));
  EXPECT_EQ(Ask(*store, second, {1}), (std::vector<Tokens>{{20}}));
  EXPECT_EQ(Ask(*store, third, {1}), (std::vector<Tokens>{{30}}));
}

TEST(ModelStoreTest, MemoryIsBoundedAndTheOldestGoesFirst) {
  const auto store = OpenOrDie({.max_bytes = 1 << 20});
  std::mt19937 random(5);
  Teach(*store, kAlice, {1, 2, 3});
  const Tokens last = {4000000, 4000001, 4000002};
  for (int i = 0; i < 3000; ++i) {
    Teach(*store, kAlice, RandomTokens(random, 64, 1000000));
    ASSERT_LE(store->bytes(), size_t{1} << 20);
  }
  Teach(*store, kAlice, last);
  EXPECT_TRUE(Ask(*store, kAlice, {1, 2}).empty() || Ask(*store, kAlice, {1, 2})[0] != Tokens{3});
  EXPECT_EQ(Ask(*store, kAlice, {4000000}), (std::vector<Tokens>{{4000001, 4000002}}));
  // Not needlessly small either.
  EXPECT_GT(store->bytes(), size_t{1} << 18);
}

TEST(ModelStoreTest, OneTenantsTrafficDoesNotEvictAnothersEvenShare) {
  const auto store = OpenOrDie({.max_bytes = 1 << 20});
  std::mt19937 random(6);
  Teach(*store, kBob, {5000000, 5000001});
  for (int i = 0; i < 3000; ++i) Teach(*store, kAlice, RandomTokens(random, 64, 1000000));
  EXPECT_EQ(Ask(*store, kBob, {5000000}), (std::vector<Tokens>{{5000001}}));
}

TEST(ModelStoreTest, ATenantsTextIsBoundedWhereTheOthersLeaveRoom) {
  const auto store = OpenOrDie({.max_bytes = 64 << 20, .max_tenant_bytes = 1 << 20});
  std::mt19937 random(8);
  Teach(*store, kBob, {5000000, 5000001});
  Teach(*store, kAlice, {6000000, 6000001});
  const Tokens last = {4000000, 4000001, 4000002};
  for (int i = 0; i < 3000; ++i) {
    Teach(*store, kAlice, RandomTokens(random, 64, 1000000));
    ASSERT_LE(store->bytes(), size_t{2} << 20);
  }
  Teach(*store, kAlice, last);
  EXPECT_TRUE(Ask(*store, kAlice, {6000000}).empty());
  EXPECT_EQ(Ask(*store, kAlice, {4000000}), (std::vector<Tokens>{{4000001, 4000002}}));
  EXPECT_EQ(Ask(*store, kBob, {5000000}), (std::vector<Tokens>{{5000001}}));
  EXPECT_GT(store->bytes(), size_t{1} << 18);
  std::vector<std::string> warnings;
  EXPECT_TRUE(
      absl::IsInvalidArgument(ModelStore::Open({.max_tenant_bytes = 100}, &warnings).status()));
}

TEST(ModelStoreTest, OverTheNumberOfTiersTheOneTaughtLongestAgoGoes) {
  const TemporaryFolder folder;
  const ModelStoreOptions options = {.dir = folder.path(), .max_tiers = 2};
  const auto store = OpenOrDie(options);
  Teach(*store, kAlice, {1, 2});
  Teach(*store, kBob, {1, 3});
  ASSERT_TRUE(store->Save().ok());
  EXPECT_EQ(FilesEndingIn(folder.path(), ".tier").size(), 2u);
  Teach(*store, kAlice, {4, 5});
  Teach(*store, {"model", "fp", "carol"}, {1, 4});
  EXPECT_EQ(store->Find(kBob), nullptr);
  EXPECT_FALSE(Ask(*store, kAlice, {1}).empty());
  ASSERT_TRUE(store->Save().ok());
  EXPECT_EQ(FilesEndingIn(folder.path(), ".tier").size(), 2u);
}

TEST(ModelStoreTest, WhatIsSavedIsLoaded) {
  const TemporaryFolder folder;
  const ModelStoreOptions options = {.dir = folder.path() / "made" / "on demand"};
  std::mt19937 random(7);
  std::vector<Tokens> contexts, want_alice, want;
  {
    const auto store = OpenOrDie(options);
    for (int i = 0; i < 50; ++i) {
      Teach(*store, kAlice, RandomTokens(random, 50, 30));
      Teach(*store, kBob, RandomTokens(random, 50, 30));
    }
    for (int i = 0; i < 100; ++i) {
      contexts.push_back(RandomTokens(random, 4, 30));
      for (const Tokens& chain : Ask(*store, kAlice, contexts.back())) want.push_back(chain);
    }
    ASSERT_TRUE(store->Save().ok());
  }
  std::vector<std::string> warnings;
  const auto store = OpenOrDie(options, &warnings);
  EXPECT_TRUE(warnings.empty());
  std::vector<Tokens> got;
  for (const Tokens& context : contexts) {
    for (const Tokens& chain : Ask(*store, kAlice, context)) got.push_back(chain);
  }
  ASSERT_FALSE(want.empty());
  EXPECT_EQ(got, want);
}

TEST(ModelStoreTest, HowTheFolderIsWrittenDoesNotMatter) {
  const TemporaryFolder folder;
  {
    const auto store = OpenOrDie({.dir = folder.path().string() + "/"});
    Teach(*store, kAlice, {1, 2});
    ASSERT_TRUE(store->Save().ok());
  }
  for (const char* end : {"", "/", "//", "/."}) {
    std::vector<std::string> warnings;
    const auto store = OpenOrDie({.dir = folder.path().string() + end}, &warnings);
    EXPECT_TRUE(warnings.empty()) << warnings[0];
    EXPECT_EQ(Ask(*store, kAlice, {1}), (std::vector<Tokens>{{2}})) << "'" << end << "'";
  }
}

TEST(ModelStoreTest, LoadingUnderALowerLimitKeepsTheNewest) {
  const TemporaryFolder folder;
  std::mt19937 random(8);
  {
    const auto store = OpenOrDie({.dir = folder.path()});
    for (int i = 0; i < 1000; ++i) Teach(*store, kAlice, RandomTokens(random, 64, 100000));
    Teach(*store, kAlice, {7000000, 7000001});
    ASSERT_TRUE(store->Save().ok());
  }
  const auto store = OpenOrDie({.dir = folder.path(), .max_bytes = 1 << 20});
  EXPECT_LE(store->bytes(), size_t{1} << 20);
  EXPECT_EQ(Ask(*store, kAlice, {7000000}), (std::vector<Tokens>{{7000001}}));
}

// Such a file cannot come from sequences, which teach short segments. Taught as a whole it would
// take a hundred times the limit, and then be forgotten as a whole.
TEST(ModelStoreTest, ALongSegmentIsLoadedWithinTheLimit) {
  const TemporaryFolder folder;
  std::mt19937 random(6);
  const Tokens tokens = RandomTokens(random, 400'000, 1'000'000);
  {
    const auto roomy = OpenOrDie({.dir = folder.path(), .max_bytes = size_t{512} << 20});
    Teach(*roomy, kAlice, tokens);
    ASSERT_TRUE(roomy->Save().ok());
  }
  const auto store = OpenOrDie({.dir = folder.path(), .max_bytes = size_t{4} << 20});
  EXPECT_LE(store->bytes(), size_t{4} << 20);
  // The newest is there, also across the ends of the parts it was taught in.
  ASSERT_NE(store->Find(kAlice), nullptr);
  const auto tier = store->Find(kAlice);
  for (size_t at = tokens.size() - 3000; at < tokens.size(); ++at) {
    const Tokens context(tokens.begin() + static_cast<ptrdiff_t>(at) - 8,
                         tokens.begin() + static_cast<ptrdiff_t>(at));
    const ContextTail tail(context);
    const MatchQuery query = {&tail, kMaxContextOrder};
    Evidence evidence;
    tier->Match({&query, 1}, 1, {&evidence, 1});
    ASSERT_EQ(evidence.longest(), kMaxContextOrder) << at;
    EXPECT_EQ(evidence.level[0].continuations[0].token, tokens[at]);
  }
}

class DamagedFileTest : public testing::TestWithParam<int> {};

TEST_P(DamagedFileTest, IsPutAsideWithAWarningAndTheRestIsLoaded) {
  const TemporaryFolder folder;
  const ModelStoreOptions options = {.dir = folder.path()};
  {
    const auto store = OpenOrDie(options);
    Teach(*store, kAlice, {1, 2, 3});
    ASSERT_TRUE(store->Save().ok());
  }
  const std::vector<fs::path> files = FilesEndingIn(folder.path(), ".tier");
  ASSERT_EQ(files.size(), 1u);
  {
    const auto store = OpenOrDie(options);
    Teach(*store, kBob, {1, 4});
    ASSERT_TRUE(store->Save().ok());
  }
  const auto size = static_cast<int64_t>(fs::file_size(files[0]));
  if (GetParam() == 0) {
    fs::resize_file(files[0], 0);
  } else if (GetParam() > 0) {
    fs::resize_file(files[0], size - GetParam());
  } else {
    std::fstream file(files[0], std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(size + GetParam());
    const char old = static_cast<char>(file.get());
    file.seekp(size + GetParam());
    file.put(static_cast<char>(old ^ 0x10));
  }
  std::vector<std::string> warnings;
  const auto store = OpenOrDie(options, &warnings);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], HasSubstr(files[0].string()));
  EXPECT_THAT(warnings[0], HasSubstr("damaged"));
  EXPECT_TRUE(fs::exists(files[0].string() + ".damaged"));
  EXPECT_FALSE(fs::exists(files[0]));
  EXPECT_TRUE(Ask(*store, kAlice, {1}).empty());
  EXPECT_EQ(Ask(*store, kBob, {1}), (std::vector<Tokens>{{4}}));
  // And it can be taught and saved again.
  Teach(*store, kAlice, {1, 9});
  EXPECT_TRUE(store->Save().ok());
  EXPECT_TRUE(fs::exists(files[0]));
}

// 0: emptied; above: cut by so many bytes; below: a bit flipped so far from the end.
INSTANTIATE_TEST_SUITE_P(Damages, DamagedFileTest, testing::Values(0, 1, 4, 40, -1, -13, -30));

TEST(ModelStoreTest, AFileUnderAnotherKeysNameIsNotLoaded) {
  const TemporaryFolder folder;
  const ModelStoreOptions options = {.dir = folder.path()};
  {
    const auto store = OpenOrDie(options);
    Teach(*store, kAlice, {1, 2});
    ASSERT_TRUE(store->Save().ok());
  }
  const fs::path file = FilesEndingIn(folder.path(), ".tier")[0];
  fs::rename(file, folder.path() / "model-00000000000000000000000000000000.tier");
  std::vector<std::string> warnings;
  const auto store = OpenOrDie(options, &warnings);
  EXPECT_EQ(warnings.size(), 1u);
  EXPECT_EQ(store->Find(kAlice), nullptr);
}

TEST(ModelStoreTest, AFolderHasOneOwnerAndLeftoversAreRemoved) {
  const TemporaryFolder folder;
  const ModelStoreOptions options = {.dir = folder.path()};
  std::ofstream(folder.path() / "model-1.tier.tmp") << "half";
  auto first = OpenOrDie(options);
  EXPECT_FALSE(fs::exists(folder.path() / "model-1.tier.tmp"));
  std::vector<std::string> warnings;
  const auto second = ModelStore::Open(options, &warnings);
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  first.reset();
  EXPECT_TRUE(ModelStore::Open(options, &warnings).ok());
}

TEST(ModelStoreTest, BadOptionsAndFolders) {
  std::vector<std::string> warnings;
  EXPECT_TRUE(absl::IsInvalidArgument(ModelStore::Open({.max_bytes = 1}, &warnings).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ModelStore::Open({.max_tiers = 0}, &warnings).status()));
  const TemporaryFolder folder;
  std::ofstream(folder.path() / "file") << "x";
  const auto status = ModelStore::Open({.dir = folder.path() / "file" / "sub"}, &warnings).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("file/sub"));
}

TEST(ModelStoreTest, LearningLookingUpAndSavingAtOnce) {
  const TemporaryFolder folder;
  const auto store = OpenOrDie({.dir = folder.path(), .max_bytes = 1 << 18, .max_tiers = 3});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&store, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 300; ++i) {
        const ModelKey key = {"model", "fp", std::string(1, static_cast<char>('a' + random() % 4))};
        Teach(*store, key, RandomTokens(random, 40, 50));
        Ask(*store, key, RandomTokens(random, 4, 50));
        if (i % 100 == 0) {
          EXPECT_TRUE(store->Save().ok());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(store->bytes(), size_t{1} << 18);
}

}  // namespace
}  // namespace strata::draft
