#include "services/draft/server/wire.h"

#include <algorithm>
#include <cstddef>

#include "services/draft/hierarchy/request_checks.h"

namespace strata::draft {

// Tiers, statuses and policies are cast from one enum to the other.
static_assert(v1::TIER_PREDICTED == static_cast<int>(TierKind::kPredicted));
static_assert(v1::TIER_CONTEXT == static_cast<int>(TierKind::kContext));
static_assert(v1::TIER_MODEL == static_cast<int>(TierKind::kModel));
static_assert(v1::TIER_CORPUS == static_cast<int>(TierKind::kCorpus));
static_assert(v1::TIER_RECYCLED == static_cast<int>(TierKind::kRecycled));
static_assert(v1::SEQUENCE_STATUS_OK == static_cast<int>(SequenceStatus::kOk));
static_assert(v1::SEQUENCE_STATUS_UNKNOWN == static_cast<int>(SequenceStatus::kUnknown));
static_assert(v1::SEQUENCE_STATUS_INVALID == static_cast<int>(SequenceStatus::kInvalid));
static_assert(v1::SEQUENCE_STATUS_EXHAUSTED == static_cast<int>(SequenceStatus::kExhausted));
static_assert(v1::POLICY_UNSPECIFIED == static_cast<int>(Policy::kDefault));
static_assert(v1::POLICY_LOCALITY == static_cast<int>(Policy::kLocality));
static_assert(v1::POLICY_CALIBRATED == static_cast<int>(Policy::kCalibrated));

namespace {

// An unsigned type may be read through its signed counterpart, so no copy is needed.
std::span<const int32_t> SignedView(const google::protobuf::RepeatedField<uint32_t>& field) {
  return {reinterpret_cast<const int32_t*>(field.data()), static_cast<size_t>(field.size())};
}

}  // namespace

std::span<const TokenId> TokensOf(const google::protobuf::RepeatedField<uint32_t>& field) {
  return SignedView(field);
}

Policy PolicyOf(v1::Policy policy) { return static_cast<Policy>(policy); }

SequenceUpdate UpdateOf(const v1::SequenceRequest& request) {
  SequenceUpdate update;
  update.sequence_id = request.sequence_id();
  update.epoch = request.epoch();
  update.position = request.position();
  update.tokens = TokensOf(request.tokens());
  update.prompt_length = request.prompt_length();
  update.node_budget = request.node_budget();
  update.max_depth = request.max_depth();
  update.has_feedback = request.has_feedback();
  update.accepted_nodes = SignedView(request.accepted_nodes());
  update.predicted_tokens = TokensOf(request.predicted_tokens());
  update.close = request.close();
  update.tenant = request.tenant();
  update.policy = PolicyOf(request.policy());
  update.ahead_nodes = request.ahead_nodes();
  return update;
}

void RankingsOf(const v1::SequenceRequest& request, std::vector<RowRanking>& out) {
  const size_t before = out.size();
  for (const v1::RowRanking& ranking : request.rankings()) {
    // One more than is allowed is as good as all: the drafter refuses it.
    if (out.size() - before > kMaxRankings) break;
    RowRanking& row = out.emplace_back();
    if (ranking.has_previous_token()) {
      row.previous_token = static_cast<TokenId>(ranking.previous_token());
      // -1 stands for none; an id that reads so is to be refused like other negative ones.
      if (row.previous_token == -1) row.previous_token = -2;
    }
    row.token = static_cast<TokenId>(ranking.token());
    const int size = ranking.next_tokens_size();
    row.size = static_cast<uint8_t>(std::min(size, RowRanking::kMaxTokens + 1));
    for (int i = 0; i < std::min(size, RowRanking::kMaxTokens); ++i) {
      row.next_tokens[i] = static_cast<TokenId>(ranking.next_tokens(i));
    }
  }
}

void ToProto(const DraftTree& tree, v1::DraftTree& proto) {
  proto.mutable_tokens()->Assign(tree.tokens.begin(), tree.tokens.end());
  proto.mutable_parents()->Assign(tree.parents.begin(), tree.parents.end());
  proto.mutable_confidences()->Assign(tree.confidences.begin(), tree.confidences.end());
  proto.mutable_tiers()->Clear();
  for (const TierKind tier : tree.tiers) proto.add_tiers(static_cast<v1::Tier>(tier));
}

void ToProto(const SequenceAnswer& answer, v1::SequenceAnswer& proto) {
  proto.set_sequence_id(answer.sequence_id);
  proto.set_epoch(answer.epoch);
  proto.set_status(static_cast<v1::SequenceStatus>(answer.status));
  proto.set_message(answer.message);
  proto.set_position(answer.position);
  ToProto(answer.tree, *proto.mutable_tree());
}

}  // namespace strata::draft
