#include "services/verify/drafting/draft_wire.h"

#include <limits>

#include "absl/strings/str_cat.h"

namespace strata::verify {

void AppendTokens(std::span<const TokenId> tokens, google::protobuf::RepeatedField<uint32_t>* out) {
  out->Reserve(out->size() + static_cast<int>(tokens.size()));
  for (const TokenId token : tokens) out->AddAlreadyReserved(static_cast<uint32_t>(token));
}

void AppendRankings(std::span<const RowRanking> rankings,
                    google::protobuf::RepeatedPtrField<v1::RowRanking>* out) {
  out->Reserve(out->size() + static_cast<int>(rankings.size()));
  for (const RowRanking& row : rankings) {
    v1::RowRanking* ranking = out->Add();
    if (row.previous_token >= 0) {
      ranking->set_previous_token(static_cast<uint32_t>(row.previous_token));
    }
    ranking->set_token(static_cast<uint32_t>(row.token));
    AppendTokens(std::span(row.next_tokens).first(row.size), ranking->mutable_next_tokens());
  }
}

v1::Policy PolicyToProto(draft::Policy policy) {
  switch (policy) {
    case draft::Policy::kLocality:
      return v1::POLICY_LOCALITY;
    case draft::Policy::kCalibrated:
      return v1::POLICY_CALIBRATED;
    case draft::Policy::kDefault:
      break;
  }
  return v1::POLICY_UNSPECIFIED;
}

absl::StatusOr<DraftTree> TreeFromProto(const v1::DraftTree& proto, int64_t vocab_size,
                                        uint32_t max_nodes) {
  // Before anything is copied: the message's size is the peer's choice.
  if (static_cast<uint32_t>(proto.tokens_size()) > max_nodes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "draft tree has ", proto.tokens_size(), " nodes, at most ", max_nodes, " were asked for"));
  }
  DraftTree tree;
  for (const uint32_t token : proto.tokens()) {
    // What does not fit TokenId must not come out as a valid one.
    tree.tokens.push_back(token <= std::numeric_limits<TokenId>::max() ? static_cast<TokenId>(token)
                                                                       : TokenId{-1});
  }
  tree.parents.assign(proto.parents().begin(), proto.parents().end());
  tree.confidences.assign(proto.confidences().begin(), proto.confidences().end());
  for (const int tier : proto.tiers()) {
    // A tier that a newer service knows and we do not is still a draft.
    tree.tiers.push_back(tier > 0 && tier < kTierKinds ? static_cast<TierKind>(tier)
                                                       : TierKind::kUnspecified);
  }
  if (absl::Status status = ValidateDraftTree(tree, vocab_size, static_cast<int>(max_nodes));
      !status.ok()) {
    return status;
  }
  return tree;
}

}  // namespace strata::verify
