#include "services/draft/hierarchy/calibration_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

namespace strata::draft {
namespace {

constexpr int64_t kVocabulary = 100;

ModelKey KeyOf(int number) { return {"model", "fingerprint", absl::StrCat("tenant ", number)}; }

// Has a tier for each key: without one a store keeps no calibration.
std::unique_ptr<ModelStore> StoreOf(int keys) {
  auto store = ModelStore::Open({}, nullptr);
  EXPECT_TRUE(store.ok()) << store.status();
  const std::array<TokenId, 4> text = {1, 2, 3, 4};
  for (int key = 0; key < keys; ++key) (*store)->Learn(KeyOf(key), text, 1, 4);
  return *std::move(store);
}

void Teach(Calibration& calibration) {
  TierEvidence evidence{};
  ContextCounts& counts = evidence[1].level[evidence[1].levels++];
  counts.order = 2;
  counts.total = 4;
  counts.size = 1;
  counts.continuations[0] = {5, 3};
  Calibration::Workspace workspace;
  calibration.Learn(evidence, kVocabulary, 5, workspace);
}

TEST(CalibrationStoreTest, WhatIsDroppedComesBackAsItWas) {
  constexpr int kKeys = 5;
  const auto models = StoreOf(kKeys);
  CalibrationStore store(models.get(), /*max_calibrations=*/2);
  std::array<uint64_t, kKeys> taught{};
  for (int i = 0; i < 200; ++i) {
    const int key = i * i % kKeys;
    EXPECT_EQ(store.Get(KeyOf(key))->observations(), taught[key]);
    Teach(*store.Get(KeyOf(key)));
    ++taught[key];
    if (i % 7 == 0) store.Save();
  }
}

TEST(CalibrationStoreTest, WithoutAStoreWhatIsDroppedIsNew) {
  CalibrationStore store(nullptr, /*max_calibrations=*/1);
  Teach(*store.Get(KeyOf(0)));
  EXPECT_EQ(store.Get(KeyOf(0))->observations(), 1u);
  store.Get(KeyOf(1));
  EXPECT_EQ(store.Get(KeyOf(0))->observations(), 0u);
}

TEST(CalibrationStoreTest, TheLastUsedStay) {
  CalibrationStore store(nullptr, /*max_calibrations=*/2);
  const auto first = store.Get(KeyOf(0));
  for (int other = 1; other < 10; ++other) {
    store.Get(KeyOf(other));
    EXPECT_EQ(store.Get(KeyOf(0)), first);
  }
}

TEST(CalibrationStoreTest, PeekKeepsNothing) {
  const auto models = StoreOf(1);
  CalibrationStore store(models.get(), /*max_calibrations=*/1);
  const auto held = store.Get(KeyOf(0));
  EXPECT_EQ(store.Peek(KeyOf(0)), held);
  for (int other = 1; other < 5; ++other) store.Peek(KeyOf(other));
  EXPECT_EQ(store.Get(KeyOf(0)), held);
}

TEST(CalibrationStoreTest, ManyThreadsShareABoundedNumber) {
  constexpr int kThreads = 4, kKeys = 6, kRounds = 300;
  constexpr size_t kMost = 3;
  const auto models = StoreOf(kKeys);
  std::array<std::atomic<uint64_t>, kKeys> taught{};
  std::vector<std::vector<std::weak_ptr<Calibration>>> seen(kThreads);
  {
    CalibrationStore store(models.get(), kMost);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kRounds; ++i) {
          const int key = (i * (t + 1) + t) % kKeys;
          ++taught[key];
          const auto calibration = store.Get(KeyOf(key));
          Teach(*calibration);
          seen[t].push_back(calibration);
          if (i % 50 == t) store.Save();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    std::vector<std::shared_ptr<Calibration>> live;
    for (const auto& of_thread : seen) {
      for (const auto& weak : of_thread) {
        const auto held = weak.lock();
        if (held != nullptr && std::find(live.begin(), live.end(), held) == live.end()) {
          live.push_back(held);
        }
      }
    }
    EXPECT_LE(live.size(), kMost);
  }
  CalibrationStore again(models.get(), kKeys);
  for (int key = 0; key < kKeys; ++key) {
    const uint64_t kept = again.Get(KeyOf(key))->observations();
    EXPECT_GT(kept, 0u);
    EXPECT_LE(kept, taught[key]);
  }
}

}  // namespace
}  // namespace strata::draft
