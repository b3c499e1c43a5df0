// Whatever the hierarchy drafts from, and by whichever policy, the tokens are those of plain
// decoding.

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "services/draft/corpus/corpus_tier.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "services/verify/drafting/embedded_draft_source.h"
#include "services/verify/scheduler/scheduler.h"
#include "tests/corpus/corpus_testing.h"
#include "tests/verify/fake_engine.h"

namespace strata::verify {
namespace {

constexpr int kRequests = 8;
// Of BuildSnapshot.
constexpr char kFingerprint[] = "0123456789abcdef0123456789abcdef";
constexpr std::array kTiers = {TierKind::kPredicted, TierKind::kContext, TierKind::kRecycled,
                               TierKind::kModel, TierKind::kCorpus};
constexpr std::array kNames = {"predicted", "context", "recycled", "model", "corpus"};

// Some of kTiers, a bit each.
class TierSet {
 public:
  explicit TierSet(unsigned bits) : bits_(bits) {}
  bool Has(TierKind tier) const {
    for (size_t i = 0; i < kTiers.size(); ++i) {
      if (kTiers[i] == tier) return (bits_ >> i & 1) != 0;
    }
    return false;
  }
  std::string ToString() const {
    std::string names;
    for (size_t i = 0; i < kTiers.size(); ++i) {
      if (Has(kTiers[i])) absl::StrAppend(&names, " ", kNames[i]);
    }
    return names.empty() ? " none" : names;
  }

 private:
  const unsigned bits_;
};

class Recorder final : public GenerationSink {
 public:
  void OnChunk(GenerationChunk chunk) override {
    tokens.insert(tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
  }
  void OnFinish(const absl::Status& s, FinishReason, const GenerationStats& st) override {
    status = s;
    stats = st;
    done.Notify();
  }
  bool cancelled() const override { return false; }

  // Read after `done`.
  std::vector<TokenId> tokens;
  absl::Status status;
  GenerationStats stats;
  absl::Notification done;
};

GenerationRequest Request(int number) {
  GenerationRequest request;
  std::mt19937 random(static_cast<unsigned>(number));
  for (int i = 0; i < 20; ++i) {
    request.prompt.push_back(static_cast<TokenId>(random() % kFakeVocab));
  }
  request.max_tokens = 40;
  request.final_tokens = {kFakeEos};
  if (number % 2 == 1) {
    request.sampling.temperature = 0.7f;
    request.sampling.seed = static_cast<uint64_t>(number);
  }
  return request;
}

using Outputs = std::vector<std::vector<TokenId>>;

// Runs all requests at once and adds up which tiers' nodes were accepted.
Outputs RunAll(Scheduler& scheduler, const std::vector<GenerationRequest>& requests,
               std::map<TierKind, uint64_t>& accepted) {
  std::vector<std::shared_ptr<Recorder>> sinks;
  for (const GenerationRequest& request : requests) {
    sinks.push_back(std::make_shared<Recorder>());
    EXPECT_TRUE(scheduler.Submit(request, sinks.back()).ok());
  }
  Outputs outputs;
  for (const auto& sink : sinks) {
    sink->done.WaitForNotification();
    EXPECT_TRUE(sink->status.ok()) << sink->status;
    outputs.push_back(sink->tokens);
    for (const TierKind tier : kTiers) {
      accepted[tier] += sink->stats.accepted_by_tier[static_cast<size_t>(tier)];
    }
  }
  return outputs;
}

class TierCombinations : public testing::TestWithParam<draft::Policy> {
 protected:
  void SetUp() override {
    FakeEngine engine;
    Scheduler scheduler({}, engine, tokenizer_, NewNoDraftSource());
    for (int i = 0; i < kRequests; ++i) requests_.push_back(Request(i));
    std::map<TierKind, uint64_t> accepted;
    // Prompts that hold themselves and their answer once: the context says what comes.
    const Outputs answers = RunAll(scheduler, requests_, accepted);
    for (int i = 0; i < kRequests; ++i) {
      std::vector<TokenId>& prompt = requests_[i].prompt;
      const std::vector<TokenId> again = prompt;
      prompt.insert(prompt.end(), answers[i].begin(), answers[i].end());
      prompt.insert(prompt.end(), again.begin(), again.end());
    }
    plain_ = RunAll(scheduler, requests_, accepted);
    draft::testing::Documents documents;
    for (int i = 0; i < kRequests; ++i) {
      documents.push_back(requests_[i].prompt);
      documents.back().insert(documents.back().end(), plain_[i].begin(), plain_[i].end());
      // Not all as it will be, so that some of what is drafted is wrong.
      for (size_t at = 5; at < documents.back().size(); at += 9) documents.back()[at] = 1;
    }
    draft::BuilderOptions options;
    options.name = "s";
    options.count.prune_count = 1;
    draft::testing::BuildSnapshot(root_.path(), documents, kFakeVocab, options);
  }

  std::unique_ptr<DraftSource> SourceOf(const TierSet& tiers) {
    draft::DrafterOptions options;
    options.policy.policy = GetParam();
    options.use_context = tiers.Has(TierKind::kContext);
    if (tiers.Has(TierKind::kCorpus)) {
      auto corpus = draft::CorpusTier::Open(root_.path(), 1 << 20);
      EXPECT_TRUE(corpus.ok()) << corpus.status();
      if (corpus.ok()) options.corpus = *std::move(corpus);
      options.tokenizer_fingerprint = kFingerprint;
    }
    // Recycled candidates are kept with the model tier.
    if (tiers.Has(TierKind::kModel) || tiers.Has(TierKind::kRecycled)) {
      std::vector<std::string> warnings;
      auto store = draft::ModelStore::Open({}, &warnings);
      EXPECT_TRUE(store.ok()) << store.status();
      if (store.ok()) options.model_store = *std::move(store);
    }
    auto drafter = draft::NewDrafter(std::move(options));
    EXPECT_TRUE(drafter.ok()) << drafter.status();
    if (!drafter.ok()) return NewNoDraftSource();
    auto source = NewEmbeddedDraftSource(*std::move(drafter),
                                         {.verifier_id = "v",
                                          .model_id = "m",
                                          .tokenizer_fingerprint = kFingerprint,
                                          .vocab_size = kFakeVocab},
                                         absl::Seconds(30));
    EXPECT_TRUE(source.ok()) << source.status();
    return source.ok() ? *std::move(source) : NewNoDraftSource();
  }

  // The requests with what the client says about them.
  std::vector<GenerationRequest> RequestsFor(const TierSet& tiers, int round) const {
    std::vector<GenerationRequest> requests = requests_;
    for (int i = 0; i < kRequests; ++i) {
      // A tenant of its own finds nobody's answer in the model tier.
      if (!tiers.Has(TierKind::kModel)) requests[i].tenant = absl::StrCat(round, " ", i);
      if (!tiers.Has(TierKind::kPredicted)) continue;
      requests[i].predicted = plain_[i];
      for (size_t at = 7; at < plain_[i].size(); at += 11) requests[i].predicted[at] = 1;
    }
    return requests;
  }

  draft::testing::TempDir root_;
  FakeTokenizer tokenizer_;
  std::vector<GenerationRequest> requests_;
  Outputs plain_;
};

TEST_P(TierCombinations, ChangeNoToken) {
  // The locality policy knows no recycled candidates.
  const auto drafts = [](TierKind tier) {
    return tier != TierKind::kRecycled || GetParam() != draft::Policy::kLocality;
  };
  for (unsigned bits = 0; bits < 1u << kTiers.size(); ++bits) {
    const TierSet tiers(bits);
    SCOPED_TRACE(absl::StrCat("tiers:", tiers.ToString()));
    FakeEngine engine;
    SchedulerOptions options;
    options.measured_budget = false;
    options.recycled_tokens = tiers.Has(TierKind::kRecycled) ? RowRanking::kMaxTokens : 0;
    Scheduler scheduler(options, engine, tokenizer_, SourceOf(tiers));
    std::map<TierKind, uint64_t> accepted;
    // The second round finds the first one's answers in the model tier.
    for (int round = 0; round < 2; ++round) {
      ASSERT_EQ(RunAll(scheduler, RequestsFor(tiers, round), accepted), plain_);
    }
    uint64_t sum = 0;
    bool any = false;
    for (const TierKind tier : kTiers) {
      sum += accepted[tier];
      any = any || (tiers.Has(tier) && drafts(tier));
    }
    if (any) {
      EXPECT_GT(sum, 0u);
    } else if (bits == 0) {
      EXPECT_EQ(sum, 0u);
    }
    // Each tier's drafts are seen alone at least.
    for (size_t i = 0; i < kTiers.size(); ++i) {
      if (bits == 1u << i && drafts(kTiers[i])) {
        EXPECT_GT(accepted[kTiers[i]], 0u);
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Policies, TierCombinations,
                         testing::Values(draft::Policy::kLocality, draft::Policy::kCalibrated),
                         [](const auto& info) {
                           return info.param == draft::Policy::kLocality ? "locality"
                                                                         : "calibrated";
                         });

}  // namespace
}  // namespace strata::verify
