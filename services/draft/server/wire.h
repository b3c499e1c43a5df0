#ifndef STRATA_SERVICES_DRAFT_SERVER_WIRE_H_
#define STRATA_SERVICES_DRAFT_SERVER_WIRE_H_

#include <google/protobuf/repeated_field.h>

#include <span>
#include <vector>

#include "common/base/draft_tree.h"
#include "services/draft/hierarchy/drafter.h"
#include "strata/v1/draft.pb.h"

namespace strata::draft {

// Between strata.v1 and the drafter's own types. Nothing is checked here: ids above INT32_MAX come
// out negative and enums as they are, for the drafter to refuse.

// A view of the field; valid as long as the message is.
std::span<const TokenId> TokensOf(const google::protobuf::RepeatedField<uint32_t>& field);
// The spans are views of `request`, but update.rankings, which the caller points at RankingsOf.
SequenceUpdate UpdateOf(const v1::SequenceRequest& request);
// Appends the request's rankings. A list that is too long is cut one past what is allowed.
void RankingsOf(const v1::SequenceRequest& request, std::vector<RowRanking>& out);
Policy PolicyOf(v1::Policy policy);
void ToProto(const DraftTree& tree, v1::DraftTree& proto);
void ToProto(const SequenceAnswer& answer, v1::SequenceAnswer& proto);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_SERVER_WIRE_H_
