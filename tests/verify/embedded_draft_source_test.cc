// The hand-over between who asks, the worker and the drafter; what is drafted is the hierarchy's
// matter (tier_combinations_test.cc).
#include "services/verify/drafting/embedded_draft_source.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <new>
#include <random>
#include <thread>
#include <vector>

namespace strata::verify {
namespace {

// Drafts the number of tokens it was sent. Notices calls that overlap.
class CountingDrafter final : public draft::Drafter {
 public:
  absl::Status OpenSession(const std::string&, const std::string&, const std::string&, int64_t,
                           uint64_t* session) override {
    *session = 7;
    return absl::OkStatus();
  }
  void CloseSession(uint64_t) override { Enter(), Leave(); }
  void Draft(uint64_t, std::span<const draft::SequenceUpdate> updates, absl::Time,
             std::vector<draft::SequenceAnswer>& answers) override {
    Enter();
    learned_ = false;
    answers.clear();
    if (fails_) {
      Leave();
      throw std::bad_alloc();
    }
    for (const draft::SequenceUpdate& update : updates) {
      draft::SequenceAnswer& answer = answers.emplace_back();
      answer.sequence_id = update.sequence_id;
      if (update.close) {
        ++closed_;
        continue;
      }
      ++(std::this_thread::get_id() == test_thread_ ? by_asker_ : by_worker_);
      const auto token = static_cast<TokenId>(update.position + update.tokens.size());
      answer.tree.Add(token, -1, 0.5f, TierKind::kContext);
    }
    Leave();
  }
  void DraftAhead(uint64_t, std::span<const draft::SequenceUpdate>, absl::Time,
                  std::vector<draft::SequenceAnswer>&) override {}
  void Learn(uint64_t) override {
    Enter();
    learned_ = true;
    Leave();
  }
  absl::Status DraftOnce(const draft::OnceRequest&, DraftTree&) override {
    return absl::UnimplementedError("");
  }
  draft::DrafterStats Stats() const override { return {}; }
  void SaveCalibrations() override {}

  void set_fails(bool fails) { fails_ = fails; }
  bool overlapped() const { return overlapped_; }
  bool learned() const { return learned_; }
  int closed() const { return closed_; }
  int by_asker() const { return by_asker_; }
  int by_worker() const { return by_worker_; }

 private:
  void Enter() {
    if (inside_.exchange(true)) overlapped_ = true;
    std::this_thread::yield();
  }
  void Leave() { inside_ = false; }

  std::atomic<bool> inside_ = false;
  std::atomic<bool> overlapped_ = false;
  std::atomic<bool> learned_ = false;
  std::atomic<bool> fails_ = false;
  std::atomic<int> closed_ = 0;
  const std::thread::id test_thread_ = std::this_thread::get_id();
  std::atomic<int> by_asker_ = 0;
  std::atomic<int> by_worker_ = 0;
};

class EmbeddedDraftSource : public ::testing::Test {
 protected:
  EmbeddedDraftSource() {
    auto source = NewEmbeddedDraftSource(
        drafter_,
        {.verifier_id = "v", .model_id = "m", .tokenizer_fingerprint = "f", .vocab_size = 1 << 20},
        absl::Seconds(30));
    EXPECT_TRUE(source.ok()) << source.status();
    source_ = *std::move(source);
  }
  DraftQuery Query(uint64_t id, const std::vector<TokenId>& tokens) const {
    DraftQuery query;
    query.sequence_id = id;
    query.tokens = tokens;
    query.node_budget = 4;
    return query;
  }

  const std::shared_ptr<CountingDrafter> drafter_ = std::make_shared<CountingDrafter>();
  std::unique_ptr<DraftSource> source_;
};

// Who takes drafts that the worker has not begun makes them itself; who comes later waits for it.
// Either way each question has its own answer, nothing overlaps, and all is learned from.
TEST_F(EmbeddedDraftSource, AnswersHoweverSoonItIsAskedFor) {
  std::mt19937 random(1);
  std::vector<TokenId> first, second;
  uint64_t id = 1;
  int ended = 0;
  for (int round = 0; round < 3000; ++round) {
    first.push_back(1);
    second.insert(second.end(), {1, 1});
    const DraftQuery queries[] = {Query(id, first), Query(id + 1, second)};
    // Now and then the worker has nothing left to learn.
    if (round % 16 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    source_->Ask(queries);
    for (unsigned spins = random() % 3 == 0 ? random() % 20000 : 0; spins > 0; --spins) {
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    if (random() % 16 == 0) std::this_thread::yield();
    std::vector<DraftReply> replies;
    source_->Take(replies);
    ASSERT_EQ(replies.size(), 2u);
    ASSERT_EQ(replies[0].tree.tokens, std::vector<TokenId>(1, first.size()));
    ASSERT_EQ(replies[1].tree.tokens, std::vector<TokenId>(1, second.size()));
    if (round % 50 != 49) continue;
    source_->Close(id, first);
    source_->Close(id + 1, second);
    ended += 2;
    id += 2;
    first.clear();
    second.clear();
  }
  source_.reset();
  EXPECT_FALSE(drafter_->overlapped());
  EXPECT_TRUE(drafter_->learned());
  EXPECT_EQ(drafter_->closed(), ended);
  EXPECT_GT(drafter_->by_asker(), 0);
  EXPECT_GT(drafter_->by_worker(), 0);
}

TEST_F(EmbeddedDraftSource, ADrafterThatThrowsIsAMissAndIsAskedAgain) {
  const std::vector<TokenId> tokens = {1, 2, 3};
  for (int round = 0; round < 200; ++round) {
    const bool fails = round % 2 == 0;
    drafter_->set_fails(fails);
    const DraftQuery query = Query(1, tokens);
    source_->Ask({&query, 1});
    if (round % 4 < 2) std::this_thread::yield();
    std::vector<DraftReply> replies;
    source_->Take(replies);
    ASSERT_EQ(replies.size(), 1u);
    EXPECT_EQ(replies[0].missed, fails);
    EXPECT_EQ(replies[0].tree.empty(), fails);
  }
}

TEST_F(EmbeddedDraftSource, WithoutAQuestionThereIsNothingToTake) {
  std::vector<DraftReply> replies;
  source_->Take(replies);
  EXPECT_TRUE(replies.empty());
}

}  // namespace
}  // namespace strata::verify
