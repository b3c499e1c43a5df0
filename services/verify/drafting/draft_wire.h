#ifndef STRATA_SERVICES_VERIFY_DRAFTING_DRAFT_WIRE_H_
#define STRATA_SERVICES_VERIFY_DRAFTING_DRAFT_WIRE_H_

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "common/base/draft_tree.h"
#include "google/protobuf/repeated_field.h"
#include "services/draft/hierarchy/drafter.h"
#include "strata/v1/draft.pb.h"

namespace strata::verify {

void AppendTokens(std::span<const TokenId> tokens, google::protobuf::RepeatedField<uint32_t>* out);

void AppendRankings(std::span<const RowRanking> rankings,
                    google::protobuf::RepeatedPtrField<v1::RowRanking>* out);

v1::Policy PolicyToProto(draft::Policy policy);

// What a peer sent, checked as ValidateDraftTree does.
absl::StatusOr<DraftTree> TreeFromProto(const v1::DraftTree& proto, int64_t vocab_size,
                                        uint32_t max_nodes);

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_DRAFTING_DRAFT_WIRE_H_
