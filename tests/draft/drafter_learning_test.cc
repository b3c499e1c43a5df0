// What is being taught keeps no draft waiting. A tenant is taught one long text after another, and
// drafts are made meanwhile: one that waits ends after the text that was being taught when it
// began. Told by counting texts, not by a watch; of several drafts one must not have waited, since
// a text may also end by chance.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "tests/draft/reference_counts.h"
#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

constexpr int64_t kVocabulary = 1000;
constexpr int kDrafts = 4;
const char kBusy[] = "busy";

// Begin and end every text, with its number after them.
constexpr TokenId kBegin = 980, kEnd = 981;

// Teaches the busy tenant as long as it lives.
class Teacher {
 public:
  explicit Teacher(ModelStore& store) : store_(store), thread_([this] { Teach(); }) {
    while (taught() == 0) std::this_thread::yield();
  }
  ~Teacher() {
    stop_ = true;
    thread_.join();
  }
  // The number of the last text that was taught to its end. As the tier has it, which is while it
  // is still locked: whoever waited for that sees it.
  TokenId taught() const { return NumberAfter(kEnd); }
  // Returns while a text is taught.
  void AwaitText() const {
    while (NumberAfter(kBegin) == taught()) std::this_thread::yield();
  }

 private:
  TokenId NumberAfter(TokenId mark) const {
    const auto tier = store_.Find(key_);
    if (tier == nullptr) return 0;
    const Tokens next = Next(*tier, Tokens{mark});
    return next.empty() ? 0 : next[0];
  }
  void Teach() {
    std::mt19937 random(1);
    const Tokens part = RandomTokens(random, 1000, kBegin);
    Tokens text = {kBegin, 0};
    while (text.size() < 200'000) text.insert(text.end(), part.begin(), part.end());
    text.insert(text.end(), {kEnd, 0});
    while (!stop_) {
      text[1] = ++text.back();
      store_.Learn(key_, text, 0, static_cast<uint32_t>(text.size()));
    }
  }

  ModelStore& store_;
  const ModelKey key_ = {"model", "fp", kBusy};
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

struct Service {
  explicit Service(std::shared_ptr<ModelStore> store, DrafterLimits limits = {}) {
    DrafterOptions options = {.model_store = std::move(store), .limits = limits};
    options.policy.max_calibrations = 1;
    auto made = NewDrafter(std::move(options));
    EXPECT_TRUE(made.ok()) << made.status();
    drafter = *std::move(made);
    EXPECT_TRUE(drafter->OpenSession("v", "model", "fp", kVocabulary, &session).ok());
  }
  ~Service() { drafter->CloseSession(session); }
  void Draft(const SequenceUpdate& update) {
    std::vector<SequenceAnswer> answers;
    drafter->Draft(session, {&update, 1}, absl::InfiniteFuture(), answers);
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_EQ(answers[0].status, SequenceStatus::kOk);
  }
  void Start(const std::string& tenant, uint64_t id = 1) {
    Draft({.sequence_id = id,
           .tokens = prompt,
           .prompt_length = 1,
           .node_budget = 8,
           .tenant = tenant});
  }
  void Continue() { Draft({.sequence_id = 1, .position = 4, .tokens = more, .node_budget = 8}); }
  void Close() { Draft({.sequence_id = 1, .position = 4, .close = true}); }
  // What the tenant's model tier says after 901.
  Tokens Known(const std::string& tenant) const {
    DraftTree tree;
    const Tokens context = {901};
    EXPECT_TRUE(drafter
                    ->DraftOnce({.model_id = "model",
                                 .tokenizer_fingerprint = "fp",
                                 .vocab_size = kVocabulary,
                                 .tenant = tenant,
                                 .context = context,
                                 .node_budget = 2,
                                 .policy = Policy::kLocality},
                                tree)
                    .ok());
    return tree.tokens;
  }

  std::unique_ptr<Drafter> drafter;
  uint64_t session = 0;
  const Tokens prompt = {900, 901, 902, 903}, more = {904};
};

std::shared_ptr<ModelStore> MakeStore() {
  auto store = ModelStore::Open({}, nullptr);
  EXPECT_TRUE(store.ok()) << store.status();
  return *std::move(store);
}

// Makes services ready, then drafts with each while the busy tenant is taught.
void ExpectNoWait(DrafterLimits limits, const std::function<void(Service&)>& prepare,
                  const std::function<void(Service&)>& draft) {
  const auto store = MakeStore();
  std::vector<std::unique_ptr<Service>> services;
  for (int i = 0; i < kDrafts; ++i) {
    services.push_back(std::make_unique<Service>(store, limits));
    prepare(*services.back());
  }
  int waited = 0;
  {
    const Teacher teacher(*store);
    for (const auto& service : services) {
      teacher.AwaitText();
      const TokenId before = teacher.taught();
      draft(*service);
      waited += teacher.taught() > before ? 1 : 0;
    }
  }
  EXPECT_LT(waited, kDrafts);
}

TEST(DrafterLearningTest, NoDraftWaitsForItsTenantsCalibration) {
  ExpectNoWait(
      {}, [](Service&) {}, [](Service& service) { service.Start(kBusy); });
}

TEST(DrafterLearningTest, NoDraftWaitsForACalibrationThatGivesWay) {
  ExpectNoWait(
      {},
      [](Service& service) {
        service.Start(kBusy);
        service.Continue();
        service.drafter->Learn(service.session);
      },
      [](Service& service) { service.Start("other", 2); });
}

TEST(DrafterLearningTest, NoDraftWaitsForWhatIsClosed) {
  ExpectNoWait(
      {},
      [](Service& service) {
        service.Start(kBusy);
        service.drafter->Learn(service.session);
      },
      [](Service& service) { service.Close(); });
}

TEST(DrafterLearningTest, NoDraftWaitsForWhatIsEvicted) {
  ExpectNoWait(
      {.max_sequences = 1, .idle_before_eviction = absl::ZeroDuration()},
      [](Service& service) {
        service.Start(kBusy);
        service.drafter->Learn(service.session);
      },
      [](Service& service) { service.Start("other", 2); });
}

TEST(DrafterLearningTest, WhatIsClosedIsTaughtByLearn) {
  Service service(MakeStore());
  service.Start("a");
  service.Close();
  EXPECT_EQ(service.drafter->Stats().live_sequences, 0u);
  EXPECT_EQ(service.Known("a"), Tokens());
  service.drafter->Learn(service.session);
  EXPECT_EQ(service.Known("a"), (Tokens{902, 903}));
}

TEST(DrafterLearningTest, WhatIsEvictedIsTaughtByLearn) {
  Service service(MakeStore(), {.max_sequences = 1, .idle_before_eviction = absl::ZeroDuration()});
  service.Start("a");
  service.drafter->Learn(service.session);
  service.Start("b", 2);
  EXPECT_EQ(service.drafter->Stats().live_sequences, 1u);
  EXPECT_EQ(service.Known("a"), Tokens());
  service.drafter->Learn(service.session);
  EXPECT_EQ(service.Known("a"), (Tokens{902, 903}));
}

// Also that of a stateless request, which has nobody to learn for it.
TEST(DrafterLearningTest, WhatAnOnceEvictsIsTaughtWhenASessionEnds) {
  Service service(MakeStore(),
                  {.max_live_tokens = 4, .idle_before_eviction = absl::ZeroDuration()});
  service.Start("a");
  service.drafter->Learn(service.session);
  EXPECT_EQ(service.Known("a"), Tokens());
  service.drafter->CloseSession(service.session);
  EXPECT_EQ(service.Known("a"), (Tokens{902, 903}));
}

}  // namespace
}  // namespace strata::draft
