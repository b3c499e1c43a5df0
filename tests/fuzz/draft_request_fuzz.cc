// Draft messages: any bytes as a strata.v1.DraftRequest or DraftOnceRequest, and long conversations
// that make sense up to a point. Whatever is sent, each answer is one that draft.proto allows.

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "services/draft/corpus/corpus_tier.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "services/draft/server/wire.h"
#include "strata/v1/draft.pb.h"
#include "tests/corpus/corpus_testing.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_seed.h"

namespace strata::draft {
namespace {

constexpr int64_t kVocab = 50;
constexpr uint32_t kMaxNodes = 64;

// What an input is, by its last byte; the rest are conversations.
constexpr int kKinds = 6;
enum Kind : uint8_t { kMessages = 0, kOnce = 1 };

std::shared_ptr<const Tier> Corpus() {
  static const auto root = std::make_unique<testing::TempDir>();
  static const std::shared_ptr<const Tier> tier = [] {
    BuilderOptions options;
    options.name = "s";
    testing::BuildSnapshot(root->path(), testing::RandomDocuments(1, 60, static_cast<int>(kVocab)),
                           kVocab, options);
    auto opened = CorpusTier::Open(root->path(), 1 << 20);
    FUZZ_CHECK(opened.ok());
    return *opened;
  }();
  return tier;
}

std::unique_ptr<Drafter> NewFuzzedDrafter() {
  DrafterOptions options;
  options.corpus = Corpus();
  options.tokenizer_fingerprint =
      static_cast<const CorpusTier&>(*options.corpus).tokenizer_fingerprint();
  ModelStoreOptions store_options;
  store_options.max_bytes = 128 << 10;
  std::vector<std::string> warnings;
  options.model_store = *ModelStore::Open(store_options, &warnings);
  options.limits.max_sequences = 6;
  options.limits.max_live_tokens = 4000;
  options.limits.max_sequence_tokens = 1500;
  options.limits.max_predicted_tokens = 500;
  options.limits.max_nodes = kMaxNodes;
  options.limits.idle_before_eviction = absl::ZeroDuration();
  auto drafter = NewDrafter(std::move(options));
  FUZZ_CHECK(drafter.ok());
  return *std::move(drafter);
}

// As DraftService serves a message of a stream.
void Serve(Drafter& drafter, uint64_t session, const v1::DraftRequest& request) {
  std::vector<SequenceUpdate> updates;
  std::vector<std::vector<RowRanking>> rankings(static_cast<size_t>(request.sequences_size()));
  for (int i = 0; i < request.sequences_size(); ++i) {
    updates.push_back(UpdateOf(request.sequences(i)));
    RankingsOf(request.sequences(i), rankings[static_cast<size_t>(i)]);
    updates.back().rankings = rankings[static_cast<size_t>(i)];
  }
  std::vector<SequenceAnswer> answers;
  drafter.Draft(session, updates, absl::InfiniteFuture(), answers);
  FUZZ_CHECK(answers.size() == updates.size());
  for (size_t i = 0; i < answers.size(); ++i) {
    const SequenceAnswer& answer = answers[i];
    FUZZ_CHECK(answer.sequence_id == updates[i].sequence_id);
    FUZZ_CHECK(answer.epoch == updates[i].epoch);
    if (answer.status != SequenceStatus::kOk) {
      FUZZ_CHECK(answer.tree.empty());
      continue;
    }
    const int budget = static_cast<int>(std::min(updates[i].node_budget, kMaxNodes));
    FUZZ_CHECK(ValidateDraftTree(answer.tree, kVocab, budget).ok());
    FUZZ_CHECK(answer.position == updates[i].position + updates[i].tokens.size());
    if (updates[i].max_depth > 0) {
      std::vector<uint32_t> depth;
      for (const int32_t parent : answer.tree.parents) {
        depth.push_back(parent < 0 ? 1 : depth[static_cast<size_t>(parent)] + 1);
        FUZZ_CHECK(depth.back() <= updates[i].max_depth);
      }
    }
    v1::SequenceAnswer proto;
    ToProto(answer, proto);
  }
  std::vector<SequenceAnswer> ahead;
  drafter.DraftAhead(session, updates, absl::InfiniteFuture(), ahead);
  FUZZ_CHECK(ahead.size() <= updates.size());
  for (const SequenceAnswer& answer : ahead) {
    FUZZ_CHECK(ValidateDraftTree(answer.tree, kVocab, static_cast<int>(kMaxNodes)).ok());
    FUZZ_CHECK(std::any_of(updates.begin(), updates.end(), [&](const SequenceUpdate& update) {
      return update.sequence_id == answer.sequence_id && update.epoch == answer.epoch &&
             update.position + update.tokens.size() == answer.position &&
             answer.tree.tokens.size() <= update.ahead_nodes;
    }));
  }
  const DrafterStats stats = drafter.Stats();
  FUZZ_CHECK(stats.live_sequences <= 6);
  FUZZ_CHECK(stats.model_tier_bytes <= 128 << 10);
}

// As DraftService serves DraftOnce.
void ServeOnce(Drafter& drafter, const v1::DraftOnceRequest& request) {
  const v1::Handshake& handshake = request.handshake();
  DraftTree tree;
  const absl::Status status =
      drafter.DraftOnce({.model_id = handshake.model_id(),
                         .tokenizer_fingerprint = handshake.tokenizer_fingerprint(),
                         .vocab_size = handshake.vocab_size(),
                         .tenant = request.tenant(),
                         .context = TokensOf(request.tokens()),
                         .predicted_tokens = TokensOf(request.predicted_tokens()),
                         .node_budget = request.node_budget(),
                         .max_depth = request.max_depth(),
                         .policy = PolicyOf(request.policy())},
                        tree);
  const int budget = static_cast<int>(std::min(request.node_budget(), kMaxNodes));
  FUZZ_CHECK(status.ok() ? ValidateDraftTree(tree, handshake.vocab_size(), budget).ok()
                         : tree.empty());
  FUZZ_CHECK(drafter.Stats().live_sequences == 0);
}

void FillSequence(FuzzedDataProvider& data, std::array<uint32_t, 8>& lengths,
                  v1::SequenceRequest& out) {
  const size_t id = data.ConsumeIntegralInRange<size_t>(0, lengths.size() - 1);
  out.set_sequence_id(id);
  out.set_epoch(data.ConsumeProbability<float>() < 0.9f ? 1 : data.ConsumeIntegral<uint8_t>() % 3);
  // Mostly where it ended.
  const uint8_t kind = data.ConsumeIntegral<uint8_t>() % 16;
  uint32_t position = lengths[id];
  if (kind == 0) position = 0;
  if (kind == 1) position = data.ConsumeIntegral<uint32_t>();
  out.set_position(position);
  const int tokens = data.ConsumeIntegralInRange<int>(0, kind == 2 ? 600 : 12);
  for (int i = 0; i < tokens; ++i) {
    out.add_tokens(kind == 3 ? data.ConsumeIntegral<uint32_t>()
                             : data.ConsumeIntegralInRange<uint32_t>(0, kVocab - 1));
  }
  lengths[id] = position + static_cast<uint32_t>(tokens);
  if (position == 0) {
    out.set_prompt_length(kind == 4 ? data.ConsumeIntegral<uint32_t>()
                                    : static_cast<uint32_t>(tokens) / 2);
    const int predicted = data.ConsumeIntegralInRange<int>(0, kind == 5 ? 600 : 8);
    for (int i = 0; i < predicted; ++i) {
      out.add_predicted_tokens(data.ConsumeIntegralInRange<uint32_t>(0, kVocab));
    }
    out.set_tenant(data.ConsumeRandomLengthString(3));
  }
  out.set_node_budget(data.ConsumeIntegralInRange<uint32_t>(0, 40));
  if (kind == 6) out.set_node_budget(data.ConsumeIntegral<uint32_t>());
  if (kind == 7) out.set_max_depth(data.ConsumeIntegralInRange<uint32_t>(1, 5));
  out.set_policy(static_cast<v1::Policy>(data.ConsumeIntegralInRange<int>(0, 3)));
  if (data.ConsumeBool()) {
    out.set_has_feedback(true);
    for (int i = data.ConsumeIntegralInRange<int>(0, 4); i > 0; --i) {
      out.add_accepted_nodes(data.ConsumeIntegralInRange<uint32_t>(0, 8));
    }
  }
  for (int i = data.ConsumeIntegralInRange<int>(0, 6); i > 0; --i) {
    v1::RowRanking& ranking = *out.add_rankings();
    ranking.set_token(data.ConsumeIntegralInRange<uint32_t>(0, kVocab));
    if (data.ConsumeBool()) {
      ranking.set_previous_token(data.ConsumeIntegralInRange<uint32_t>(0, kVocab));
    }
    for (int k = data.ConsumeIntegralInRange<int>(0, 9); k > 0; --k) {
      ranking.add_next_tokens(data.ConsumeIntegralInRange<uint32_t>(0, kVocab));
    }
  }
  out.set_close(kind == 8);
}

std::vector<std::string> Seeds() {
  const std::string& fingerprint =
      static_cast<const CorpusTier&>(*Corpus()).tokenizer_fingerprint();
  // A prompt, then feedback with rankings, then the end.
  std::vector<std::string> messages;
  for (uint32_t step = 0; step < 3; ++step) {
    v1::DraftRequest request;
    request.set_step(step);
    v1::SequenceRequest& sequence = *request.add_sequences();
    sequence.set_sequence_id(7);
    sequence.set_position(step == 0 ? 0 : 5 + step);
    for (uint32_t i = 0; i < (step == 0 ? 6u : 1u); ++i) sequence.add_tokens(1 + i % 3);
    sequence.set_node_budget(16);
    if (step == 0) {
      sequence.set_prompt_length(4);
      sequence.add_predicted_tokens(2);
      sequence.set_tenant("t");
    } else {
      sequence.set_has_feedback(true);
      sequence.add_accepted_nodes(0);
      v1::RowRanking& ranking = *sequence.add_rankings();
      ranking.set_previous_token(1);
      ranking.set_token(2);
      ranking.add_next_tokens(3);
    }
    sequence.set_policy(v1::POLICY_CALIBRATED);
    sequence.set_close(step == 2);
    messages.push_back(request.SerializeAsString());
  }
  strata::fuzz::SeedWriter conversation;
  conversation.Byte(kMessages);
  for (const std::string& message : messages) conversation.Bool(false).Text(message);

  v1::DraftOnceRequest once;
  once.mutable_handshake()->set_tokenizer_fingerprint(fingerprint);
  once.mutable_handshake()->set_model_id("model");
  once.mutable_handshake()->set_vocab_size(kVocab);
  for (const uint32_t token : {1, 2, 3, 1, 2}) once.add_tokens(token);
  once.set_node_budget(16);
  once.add_predicted_tokens(2);
  return {conversation.Finish(),
          strata::fuzz::SeedWriter().Byte(kOnce).Text(once.SerializeAsString()).Finish()};
}

}  // namespace
}  // namespace strata::draft

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  strata::fuzz::WriteSeeds(*argc, *argv, strata::draft::Seeds());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace strata::draft;
  static std::shared_ptr<const Tier> corpus = Corpus();
  FuzzedDataProvider data(bytes, size);
  const std::unique_ptr<Drafter> drafter = NewFuzzedDrafter();
  const int kind = data.ConsumeIntegral<uint8_t>() % kKinds;
  if (kind == kOnce) {
    while (data.remaining_bytes() > 0) {
      strata::v1::DraftOnceRequest request;
      if (request.ParseFromString(data.ConsumeRandomLengthString())) ServeOnce(*drafter, request);
    }
    return 0;
  }
  std::array<uint64_t, 2> sessions{};
  for (uint64_t& session : sessions) {
    FUZZ_CHECK(drafter
                   ->OpenSession("verifier", "model",
                                 static_cast<const CorpusTier&>(*corpus).tokenizer_fingerprint(),
                                 kVocab, &session)
                   .ok());
  }
  std::array<std::array<uint32_t, 8>, 2> lengths{};
  for (int step = 0; step < 200 && data.remaining_bytes() > 0; ++step) {
    strata::v1::DraftRequest request;
    const size_t which = data.ConsumeBool() ? 1 : 0;
    if (kind == kMessages) {
      const std::string message = data.ConsumeRandomLengthString();
      if (!request.ParseFromString(message)) continue;
    } else {
      for (int i = data.ConsumeIntegralInRange<int>(1, 3); i > 0; --i) {
        FillSequence(data, lengths[which], *request.add_sequences());
      }
    }
    Serve(*drafter, sessions[which], request);
  }
  drafter->CloseSession(sessions[0]);
  drafter->CloseSession(sessions[1]);
  FUZZ_CHECK(drafter->Stats().live_sequences == 0);
  return 0;
}
