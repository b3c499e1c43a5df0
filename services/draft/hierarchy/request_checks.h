#ifndef STRATA_SERVICES_DRAFT_HIERARCHY_REQUEST_CHECKS_H_
#define STRATA_SERVICES_DRAFT_HIERARCHY_REQUEST_CHECKS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "common/base/draft_tree.h"
#include "services/draft/hierarchy/drafter.h"

// What requests must look like, by the bounds of draft.proto. All return INVALID_ARGUMENT with a
// sentence that names the field, its value and what is allowed.
namespace strata::draft {

// Rankings of one sequence in one message.
inline constexpr size_t kMaxRankings = 1024;

absl::Status CheckVerifierId(const std::string& verifier_id);
// Names, and the vocabulary, of a model.
absl::Status CheckModel(const std::string& model_id, const std::string& tokenizer_fingerprint,
                        int64_t vocab_size);
absl::Status CheckTenant(const std::string& tenant);
absl::Status CheckPolicy(const char* what, Policy policy);
absl::Status CheckTokens(const char* what, std::span<const TokenId> tokens, int64_t vocab_size);
absl::Status CheckUpdate(const SequenceUpdate& update, int64_t vocab_size,
                         size_t max_predicted_tokens);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_HIERARCHY_REQUEST_CHECKS_H_
