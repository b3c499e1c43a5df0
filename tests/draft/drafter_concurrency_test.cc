// Runs that a data race or a lost update shows in; meant for the tsan preset, cheap enough for all.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

constexpr int64_t kVocabulary = 50;

// One verifier's life: sequences that grow, rewind and close, in batches. Returns the number of
// sequences that were answered with a valid tree.
int RunVerifier(Drafter& drafter, int seed, int steps) {
  std::mt19937 random(seed);
  uint64_t session = 0;
  EXPECT_TRUE(drafter.OpenSession("v", "model", "fp", kVocabulary, &session).ok());
  std::vector<Tokens> live(4);
  int answered = 0;
  for (int step = 0; step < steps; ++step) {
    std::vector<Tokens> added;
    std::vector<SequenceUpdate> updates;
    for (uint64_t id = 0; id < live.size(); ++id) {
      added.push_back(RandomTokens(random, 1 + random() % 5, kVocabulary));
    }
    for (uint64_t id = 0; id < live.size(); ++id) {
      SequenceUpdate update = {.sequence_id = id,
                               .position = static_cast<uint32_t>(live[id].size()),
                               .tokens = added[id],
                               .node_budget = 16,
                               .close = random() % 20 == 0,
                               .tenant = std::string(1, static_cast<char>('a' + seed % 2))};
      updates.push_back(update);
      live[id].insert(live[id].end(), added[id].begin(), added[id].end());
    }
    std::vector<SequenceAnswer> answers;
    drafter.Draft(session, updates, absl::InfiniteFuture(), answers);
    for (size_t i = 0; i < answers.size(); ++i) {
      if (answers[i].status == SequenceStatus::kOk) {
        EXPECT_TRUE(ValidateDraftTree(answers[i].tree, kVocabulary, 16).ok());
        ++answered;
      }
      // Unknown: evicted in between; start again.
      if (updates[i].close || answers[i].status != SequenceStatus::kOk) live[i].clear();
    }
  }
  drafter.CloseSession(session);
  return answered;
}

TEST(DrafterConcurrencyTest, VerifiersAtOnceWithEvictionAndSaving) {
  const TemporaryFolder folder;
  std::vector<std::string> warnings;
  auto opened = ModelStore::Open({.dir = folder.path(), .max_bytes = 1 << 18}, &warnings);
  ASSERT_TRUE(opened.ok()) << opened.status();
  const std::shared_ptr<ModelStore> store = *std::move(opened);
  // Room for less than the 16 sequences that want to live, so that they evict each other.
  auto drafter =
      NewDrafter({.model_store = store,
                  .limits = {.max_sequences = 13, .idle_before_eviction = absl::ZeroDuration()}});
  ASSERT_TRUE(drafter.ok());
  std::atomic<int> answered = 0;
  std::atomic<bool> stop = false;
  std::thread observer([&] {
    while (!stop) {
      const DrafterStats stats = (*drafter)->Stats();
      EXPECT_LE(stats.live_sequences, 13u);
      EXPECT_TRUE(store->Save().ok());
      DraftTree tree;
      const Tokens context = {1, 2};
      EXPECT_TRUE((*drafter)
                      ->DraftOnce({.model_id = "model",
                                   .tokenizer_fingerprint = "fp",
                                   .vocab_size = kVocabulary,
                                   .tenant = "a",
                                   .context = context,
                                   .node_budget = 16},
                                  tree)
                      .ok());
    }
  });
  std::vector<std::thread> verifiers;
  for (int seed = 0; seed < 4; ++seed) {
    verifiers.emplace_back([&, seed] { answered += RunVerifier(**drafter, seed, 200); });
  }
  for (std::thread& verifier : verifiers) verifier.join();
  stop = true;
  observer.join();
  EXPECT_GT(answered, 400);
  EXPECT_EQ((*drafter)->Stats().live_sequences, 0u);
  EXPECT_LE(store->bytes(), size_t{1} << 18);
}

// Sessions closed by one thread while another still drafts in them.
TEST(DrafterConcurrencyTest, ClosingASessionThatIsInUseLeaksNothing) {
  auto drafter = NewDrafter({});
  ASSERT_TRUE(drafter.ok());
  for (int round = 0; round < 50; ++round) {
    uint64_t session = 0;
    ASSERT_TRUE((*drafter)->OpenSession("v", "m", "fp", kVocabulary, &session).ok());
    std::thread user([&] {
      const Tokens tokens = {1, 2, 3};
      for (uint64_t id = 0; id < 50; ++id) {
        const SequenceUpdate update = {.sequence_id = id, .tokens = tokens, .node_budget = 4};
        std::vector<SequenceAnswer> answers;
        (*drafter)->Draft(session, {&update, 1}, absl::InfiniteFuture(), answers);
      }
    });
    (*drafter)->CloseSession(session);
    user.join();
    EXPECT_EQ((*drafter)->Stats().live_sequences, 0u);
  }
}

}  // namespace
}  // namespace strata::draft
