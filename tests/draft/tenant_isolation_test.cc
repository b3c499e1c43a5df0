// What a tenant gets does not depend on what others say: the same messages are answered with the
// same bytes by a service that serves them alone and by one that serves another tenant in between.
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "common/rpc/server.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "services/draft/server/draft_service.h"
#include "services/draft/tiers/model_store.h"
#include "strata/v1/draft.grpc.pb.h"
#include "tests/draft/reference_tier.h"
#include "tests/draft/test_util.h"

namespace strata::draft {
namespace {

constexpr int kVocabulary = 50;

// A draft service, and the one stream of a verifier.
class Service {
 public:
  Service() {
    const auto corpus = std::make_shared<ReferenceTier>(TierKind::kCorpus);
    std::mt19937 random(1);
    for (int i = 0; i < 20; ++i) corpus->Teach(RandomTokens(random, 40, kVocabulary));
    std::vector<std::string> warnings;
    auto store = ModelStore::Open({}, &warnings);
    EXPECT_TRUE(store.ok()) << store.status();
    auto drafter = NewDrafter(
        {.corpus = corpus, .tokenizer_fingerprint = "fp", .model_store = *std::move(store)});
    EXPECT_TRUE(drafter.ok()) << drafter.status();
    drafter_ = *std::move(drafter);
    service_ = std::make_unique<DraftService>(drafter_.get(), "fp", "1");
    const std::array<grpc::Service*, 1> services = {service_.get()};
    auto server = rpc::Server::Start({}, services);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = v1::DraftService::NewStub(
        grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials()));
    stream_ = stub_->DraftStream(&context_);
  }
  ~Service() {
    stream_->WritesDone();
    EXPECT_TRUE(stream_->Finish().ok());
  }

  // A whole generation: the bytes of all answers, and the trees of DraftOnce along the way.
  std::vector<std::string> Generate(const std::string& tenant, const Tokens& tokens) {
    std::vector<std::string> answers;
    const uint64_t id = next_id_++;
    uint32_t position = 0;
    std::vector<uint32_t> last;
    for (uint32_t end = 8; end <= tokens.size(); end += 4) {
      v1::DraftRequest request;
      request.set_step(++step_);
      Fill(*request.mutable_handshake());
      v1::SequenceRequest& sequence = *request.add_sequences();
      sequence.set_sequence_id(id);
      sequence.set_position(position);
      sequence.set_tenant(tenant);
      sequence.set_prompt_length(position == 0 ? 4 : 0);
      sequence.set_node_budget(16);
      for (; position < end; ++position) sequence.add_tokens(tokens[position]);
      if (end > 8) {
        v1::RowRanking& ranking = *sequence.add_rankings();
        ranking.set_previous_token(tokens[end - 2]);
        ranking.set_token(tokens[end - 1]);
        ranking.add_next_tokens((tokens[end - 1] + 1) % kVocabulary);
        // The first node, if it came true.
        sequence.set_has_feedback(true);
        if (!last.empty() && last[0] == static_cast<uint32_t>(tokens[end - 4])) {
          sequence.add_accepted_nodes(0);
        }
      }
      sequence.set_close(end + 4 > tokens.size());
      EXPECT_TRUE(stream_->Write(request));
      v1::DraftResponse response;
      EXPECT_TRUE(stream_->Read(&response));
      EXPECT_EQ(response.answers_size(), 1);
      if (response.answers_size() != 1) return answers;
      v1::SequenceAnswer& answer = *response.mutable_answers(0);
      EXPECT_EQ(answer.status(), v1::SEQUENCE_STATUS_OK) << answer.message();
      last.assign(answer.tree().tokens().begin(), answer.tree().tokens().end());
      // The one thing that counts all tenants' sequences.
      answer.clear_sequence_id();
      answers.push_back(answer.SerializeAsString());
      WaitUntilLearned();
      answers.push_back(DraftOnce(tenant, {tokens.begin(), tokens.begin() + end}));
    }
    return answers;
  }

  std::string DraftOnce(const std::string& tenant, const Tokens& tokens) {
    v1::DraftOnceRequest request;
    Fill(*request.mutable_handshake());
    request.mutable_tokens()->Add(tokens.begin(), tokens.end());
    request.set_node_budget(16);
    request.set_tenant(tenant);
    grpc::ClientContext context;
    v1::DraftOnceResponse response;
    const grpc::Status status = stub_->DraftOnce(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.SerializeAsString();
  }

 private:
  // The service learns from a message after it has answered.
  void WaitUntilLearned() const {
    const auto learned = [this] {
      const std::vector<uint64_t> counts = service_->counters().learn_seconds.Snapshot().counts;
      return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
    };
    while (learned() < step_) absl::SleepFor(absl::Microseconds(100));
  }

  static void Fill(v1::Handshake& handshake) {
    handshake.set_verifier_id("verifier");
    handshake.set_tokenizer_fingerprint("fp");
    handshake.set_model_id("model");
    handshake.set_vocab_size(kVocabulary);
  }

  std::unique_ptr<Drafter> drafter_;
  std::unique_ptr<DraftService> service_;
  std::unique_ptr<rpc::Server> server_;
  std::unique_ptr<v1::DraftService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::DraftRequest, v1::DraftResponse>> stream_;
  uint64_t next_id_ = 1;
  uint64_t step_ = 0;
};

TEST(TenantIsolationTest, AnswersDoNotDependOnOtherTenants) {
  Service alone, shared;
  std::mt19937 random(3);
  bool helped = false;
  const Tokens refrain = RandomTokens(random, 60, kVocabulary);
  for (int round = 0; round < 12; ++round) {
    // They say much the same, so that what leaked would be of use.
    Tokens bob = refrain;
    const Tokens& alice = refrain;
    for (int i = 0; i < 6; ++i) bob[random() % bob.size()] = random() % kVocabulary;
    shared.Generate("alice", alice);
    const auto expected = alone.Generate("bob", bob);
    ASSERT_EQ(shared.Generate("bob", bob), expected) << round;
    ASSERT_EQ(shared.DraftOnce("nobody", bob), alone.DraftOnce("nobody", bob));
    helped |= shared.DraftOnce("alice", bob) != shared.DraftOnce("nobody", bob);
  }
  EXPECT_TRUE(helped) << "Alice's past made no difference to anybody: nothing was tested";
}

}  // namespace
}  // namespace strata::draft
