// What a model store keeps beside the model tiers' text, and the memory of all of it.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "services/draft/tiers/model_store.h"
#include "tests/draft/reference_counts.h"
#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

const ModelKey kAlice = {"model", "fp", "alice"};
const ModelKey kBob = {"model", "fp", "bob"};

std::unique_ptr<ModelStore> OpenOrDie(const ModelStoreOptions& options) {
  std::vector<std::string> warnings;
  auto store = ModelStore::Open(options, &warnings);
  EXPECT_TRUE(store.ok()) << store.status();
  EXPECT_TRUE(warnings.empty()) << warnings[0];
  return store.ok() ? *std::move(store) : nullptr;
}

void Teach(ModelStore& store, const ModelKey& key, const Tokens& tokens) {
  store.Learn(key, tokens, 0, static_cast<uint32_t>(tokens.size()));
}

RowRanking Ranking(TokenId previous, TokenId token, const Tokens& next) {
  RowRanking row;
  row.previous_token = previous;
  row.token = token;
  row.size = static_cast<uint8_t>(next.size());
  std::copy(next.begin(), next.end(), row.next_tokens.begin());
  return row;
}

size_t FilesIn(const std::filesystem::path& folder) {
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    files += entry.path().extension() == ".tier";
  }
  return files;
}

TEST(CalibrationOfAStoreTest, IsKeptApartSavedAndLoaded) {
  const TemporaryFolder folder;
  const std::string blob("a\0b", 3);
  {
    const auto store = OpenOrDie({.dir = folder.path()});
    Teach(*store, kAlice, {1, 2});
    Teach(*store, kBob, {1, 3});
    store->SetCalibration(kAlice, blob);
    EXPECT_EQ(store->Calibration(kAlice), blob);
    EXPECT_EQ(store->Calibration(kBob), "");
    ASSERT_TRUE(store->Save().ok());
  }
  const auto store = OpenOrDie({.dir = folder.path()});
  EXPECT_EQ(store->Calibration(kAlice), blob);
  EXPECT_EQ(store->Calibration(kBob), "");
  EXPECT_EQ(Next(*store->Find(kAlice), Tokens{1}), Tokens{2});
}

TEST(CalibrationOfAStoreTest, AChangeAloneIsSavedAndNoChangeIsNot) {
  const TemporaryFolder folder;
  {
    const auto store = OpenOrDie({.dir = folder.path()});
    Teach(*store, kAlice, {1, 2});
    ASSERT_TRUE(store->Save().ok());
    store->SetCalibration(kAlice, "new");
    ASSERT_TRUE(store->Save().ok());
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
      if (entry.path().extension() == ".tier") std::filesystem::remove(entry.path());
    }
    store->SetCalibration(kAlice, "new");
    ASSERT_TRUE(store->Save().ok());
    EXPECT_EQ(FilesIn(folder.path()), 0u);
    store->SetCalibration(kAlice, "newer");
    ASSERT_TRUE(store->Save().ok());
    EXPECT_EQ(FilesIn(folder.path()), 1u);
  }
  EXPECT_EQ(OpenOrDie({.dir = folder.path()})->Calibration(kAlice), "newer");
}

TEST(CalibrationOfAStoreTest, ItsSizeIsBoundedAndCounted) {
  const auto store = OpenOrDie({});
  Teach(*store, kAlice, {1, 2});
  const size_t before = store->bytes();
  store->SetCalibration(kAlice, std::string(kMaxCalibrationBytes, 'x'));
  EXPECT_GE(store->bytes(), before + kMaxCalibrationBytes - sizeof(std::string));
  store->SetCalibration(kAlice, std::string(kMaxCalibrationBytes + 1, 'y'));
  EXPECT_EQ(store->Calibration(kAlice), std::string(kMaxCalibrationBytes, 'x'));
  // Nothing was taught that it could go with.
  store->SetCalibration(kBob, "z");
  EXPECT_EQ(store->Calibration(kBob), "");
  EXPECT_EQ(store->Find(kBob), nullptr);
}

TEST(CalibrationOfAStoreTest, OneTooLargeForTheStoreForgetsNoText) {
  const auto store = OpenOrDie({.max_bytes = kMinModelStoreBytes});
  Teach(*store, kAlice, {1, 2});
  store->SetCalibration(kAlice, std::string(kMinModelStoreBytes / 4, 'x'));
  EXPECT_EQ(store->Calibration(kAlice), "");
  ASSERT_NE(store->Find(kAlice), nullptr);
  EXPECT_EQ(Next(*store->Find(kAlice), Tokens{1}), Tokens{2});
}

TEST(CalibrationOfAStoreTest, AllTogetherAreBoundedAndTheOldestGivesWay) {
  constexpr size_t kMaxBytes = 1 << 20;
  constexpr size_t kSize = kMaxBytes / 8 / 3 - 100;
  const TemporaryFolder folder;
  const auto key_of = [](int i) { return ModelKey{"model", "fp", std::to_string(i)}; };
  // Without those of the tenants in `gone`; all have their text.
  const auto expect_kept = [&](const ModelStore& store, const std::vector<int>& gone) {
    for (int i = 0; i < 4; ++i) {
      const bool kept = std::find(gone.begin(), gone.end(), i) == gone.end();
      EXPECT_EQ(store.Calibration(key_of(i)),
                kept ? std::string(kSize, static_cast<char>('a' + i)) : "")
          << i;
      EXPECT_EQ(Next(*store.Find(key_of(i)), Tokens{1}), Tokens{2});
    }
  };
  const auto set = [&](ModelStore& store, int i) {
    store.SetCalibration(key_of(i), std::string(kSize, static_cast<char>('a' + i)));
  };
  {
    const auto store = OpenOrDie({.dir = folder.path(), .max_bytes = kMaxBytes});
    for (int i = 0; i < 4; ++i) Teach(*store, key_of(i), {1, 2});
    const size_t text = store->bytes();
    for (int i = 0; i < 3; ++i) set(*store, i);
    ASSERT_TRUE(store->Save().ok());
    Teach(*store, key_of(0), {1, 2});
    set(*store, 3);
    expect_kept(*store, {1});
    // Its own makes room for itself first.
    set(*store, 3);
    expect_kept(*store, {1});
    EXPECT_GE(store->bytes(), text + 3 * kSize);
    EXPECT_LE(store->bytes(), text + kMaxBytes / 8 + 4096);
    ASSERT_TRUE(store->Save().ok());
  }
  expect_kept(*OpenOrDie({.dir = folder.path(), .max_bytes = kMaxBytes}), {1});
}

TEST(RecycledOfAStoreTest, IsKeptApartCountedAndNotSaved) {
  const TemporaryFolder folder;
  {
    const auto store = OpenOrDie({.dir = folder.path()});
    EXPECT_EQ(store->FindRecycled(kAlice), nullptr);
    Teach(*store, kAlice, {1, 2});
    Teach(*store, kBob, {1, 2});
    EXPECT_EQ(store->FindRecycled(kAlice), nullptr);
    const size_t before = store->bytes();
    const std::vector<RowRanking> rows = {Ranking(5, 6, {7, 8, 9}), Ranking(-1, 4, {3})};
    store->LearnRankings(kAlice, rows);
    EXPECT_GE(store->bytes(), before + RecycledTier::kRankings * RowRanking::kMaxTokens * 4);
    EXPECT_EQ(store->FindRecycled(kBob), nullptr);
    const auto recycled = store->FindRecycled(kAlice);
    ASSERT_NE(recycled, nullptr);
    EXPECT_EQ(recycled->kind(), TierKind::kRecycled);
    const Evidence evidence = Ask(*recycled, Tokens{5, 6});
    ASSERT_EQ(evidence.levels, 2);
    EXPECT_EQ(evidence.level[0].order, 2);
    EXPECT_EQ(evidence.level[1].order, 1);
    for (int level = 0; level < 2; ++level) {
      ASSERT_EQ(evidence.level[level].size, 3);
      EXPECT_EQ(evidence.level[level].total, 6u);
      for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(evidence.level[level].continuations[i].token, 7 + i);
        EXPECT_EQ(evidence.level[level].continuations[i].count, 3u - static_cast<uint32_t>(i));
      }
    }
    EXPECT_EQ(Next(*recycled, Tokens{4}), Tokens{3});
    ASSERT_TRUE(store->Save().ok());
  }
  const auto store = OpenOrDie({.dir = folder.path()});
  EXPECT_EQ(store->FindRecycled(kAlice), nullptr);
  EXPECT_EQ(Next(*store->Find(kAlice), Tokens{1}), Tokens{2});
}

TEST(RecycledOfAStoreTest, WithoutRoomForItsTableTextIsNotForgotten) {
  const auto store = OpenOrDie({.max_bytes = kMinModelStoreBytes});
  Teach(*store, kAlice, {1, 2});
  const std::vector<RowRanking> rows = {Ranking(5, 6, {7, 8, 9})};
  store->LearnRankings(kAlice, rows);
  EXPECT_EQ(store->FindRecycled(kAlice), nullptr);
  EXPECT_LE(store->bytes(), kMinModelStoreBytes);
  EXPECT_EQ(Next(*store->Find(kAlice), Tokens{1}), Tokens{2});
}

// Room for so many tables, and time enough has always passed.
ModelStoreOptions RoomForTables(size_t tables) {
  return {.max_bytes = tables * 8 * RecycledTier::kBytes + 4096,
          .min_recycled_idle = absl::ZeroDuration()};
}

TEST(RecycledOfAStoreTest, TheTableTaughtTheLongestAgoGivesWay) {
  const auto store = OpenOrDie(RoomForTables(2));
  const ModelKey carol = {"model", "fp", "carol"};
  const std::vector<RowRanking> rows = {Ranking(5, 6, {7, 8, 9})};
  Teach(*store, kAlice, {1, 2});
  store->LearnRankings(kAlice, rows);
  store->LearnRankings(kBob, rows);
  store->LearnRankings(kAlice, rows);
  const size_t full = store->bytes();
  const auto read = store->FindRecycled(kBob);
  store->LearnRankings(carol, rows);
  EXPECT_EQ(store->FindRecycled(kBob), nullptr);
  ASSERT_NE(store->FindRecycled(carol), nullptr);
  EXPECT_EQ(Next(*store->FindRecycled(carol), Tokens{6}), (Tokens{7, 8, 9}));
  ASSERT_NE(store->FindRecycled(kAlice), nullptr);
  // Whoever reads it meanwhile may.
  EXPECT_EQ(Next(*read, Tokens{6}), (Tokens{7, 8, 9}));
  // Alice's table is older now, for all that her text is taught.
  Teach(*store, kAlice, {1, 2});
  store->LearnRankings(kBob, rows);
  EXPECT_EQ(store->FindRecycled(kAlice), nullptr);
  ASSERT_NE(store->FindRecycled(kBob), nullptr);
  EXPECT_EQ(Next(*store->Find(kAlice), Tokens{1}), Tokens{2});
  EXPECT_NEAR(static_cast<double>(store->bytes()), static_cast<double>(full),
              static_cast<double>(RecycledTier::kBytes) / 4);
}

TEST(RecycledOfAStoreTest, TablesGiveWayInTheOrderInWhichTheyWereTaught) {
  constexpr int kTables = 4, kTenants = 7;
  const auto store = OpenOrDie(RoomForTables(kTables));
  const std::vector<RowRanking> rows = {Ranking(5, 6, {7, 8, 9})};
  const auto key_of = [](int i) { return ModelKey{"model", "fp", std::to_string(i % kTenants)}; };
  for (int i = 0; i < 3 * kTenants; ++i) {
    store->LearnRankings(key_of(i), rows);
    for (int back = 0; back < std::min(i + 1, kTenants); ++back) {
      EXPECT_EQ(store->FindRecycled(key_of(i - back)) != nullptr, back < kTables)
          << i << ", " << back;
    }
  }
}

TEST(RecycledOfAStoreTest, ThoseAtWorkKeepTheirTables) {
  ModelStoreOptions options = RoomForTables(2);
  options.min_recycled_idle = absl::Hours(1);
  const auto store = OpenOrDie(options);
  const ModelKey carol = {"model", "fp", "carol"};
  const std::vector<RowRanking> rows = {Ranking(5, 6, {7, 8, 9})};
  for (const ModelKey& key : {kAlice, kBob, carol}) store->LearnRankings(key, rows);
  EXPECT_NE(store->FindRecycled(kAlice), nullptr);
  EXPECT_NE(store->FindRecycled(kBob), nullptr);
  EXPECT_EQ(store->FindRecycled(carol), nullptr);
}

// Tables that come and go under readers, for the tsan preset.
TEST(RecycledOfAStoreTest, TablesGiveWayWhileTheyAreRead) {
  const auto store = OpenOrDie(RoomForTables(2));
  const auto key_of = [](int i) {
    return ModelKey{"model", "fp", std::string(1, static_cast<char>('a' + i % 5))};
  };
  std::atomic<bool> stop = false;
  std::thread reader([&] {
    for (int i = 0; !stop; ++i) {
      const auto recycled = store->FindRecycled(key_of(i));
      if (recycled == nullptr) continue;
      const Tokens next = Next(*recycled, Tokens{6});
      EXPECT_TRUE(next.empty() || next.size() == 3u);
    }
  });
  std::vector<std::thread> learners;
  for (int t = 0; t < 2; ++t) {
    learners.emplace_back([&, t] {
      const std::vector<RowRanking> rows = {Ranking(5, 6, {7, 8, 9})};
      for (int i = 0; i < 200; ++i) store->LearnRankings(key_of(i + t), rows);
    });
  }
  for (std::thread& learner : learners) learner.join();
  stop = true;
  reader.join();
  EXPECT_LE(store->bytes(), RoomForTables(2).max_bytes / 4);
}

// The bound as another thread sees it, which looks all the time, with readers of every tenant.
TEST(MemoryOfAStoreTest, HoldsWhileTenantsLearnAndAreRead) {
  constexpr size_t kMaxBytes = 4 << 20;
  const auto store = OpenOrDie({.max_bytes = kMaxBytes, .max_tiers = 6});
  std::atomic<bool> stop = false;
  std::atomic<size_t> most = 0;
  std::thread watcher([&] {
    std::mt19937 random(1);
    while (!stop) {
      most = std::max<size_t>(most, store->bytes());
      const ModelKey key = {"model", "fp", std::string(1, static_cast<char>('a' + random() % 6))};
      const auto tier = store->Find(key);
      if (tier == nullptr) continue;
      const Evidence evidence = Ask(*tier, RandomTokens(random, 6, 40));
      for (int level = 0; level < evidence.levels; ++level) {
        for (const Continuation& next : evidence.level[level].list()) ASSERT_LT(next.token, 40000);
      }
    }
  });
  std::vector<std::thread> learners;
  for (int t = 0; t < 2; ++t) {
    learners.emplace_back([&store, t] {
      std::mt19937 random(10 + t);
      for (int i = 0; i < 1200; ++i) {
        const ModelKey key = {"model", "fp", std::string(1, static_cast<char>('a' + random() % 6))};
        Teach(*store, key, RandomTokens(random, 72, i % 2 == 0 ? 40 : 40000));
      }
    });
  }
  for (std::thread& learner : learners) learner.join();
  stop = true;
  watcher.join();
  EXPECT_LE(most, kMaxBytes);
  EXPECT_LE(store->bytes(), kMaxBytes);
  // Most of it is used.
  EXPECT_GT(store->bytes(), kMaxBytes / 2);
}

}  // namespace
}  // namespace strata::draft
