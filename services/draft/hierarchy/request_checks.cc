#include "services/draft/hierarchy/request_checks.h"

#include "absl/strings/str_cat.h"

namespace strata::draft {
namespace {

constexpr size_t kMaxVerifierIdBytes = 128;
constexpr size_t kMaxModelIdBytes = 256;
constexpr size_t kMaxFingerprintBytes = 256;
constexpr size_t kMaxTenantBytes = 128;

absl::Status CheckLength(const char* what, const std::string& value, size_t min, size_t max) {
  if (value.size() >= min && value.size() <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " has ", value.size(), " bytes, must have ", min, " to ", max));
}

absl::Status CheckVocabulary(int64_t vocab_size) {
  if (vocab_size >= 1 && vocab_size <= INT32_MAX) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("vocab_size is ", vocab_size, ", must be 1 to ", INT32_MAX));
}

bool InVocabulary(TokenId token, int64_t vocab_size) { return token >= 0 && token < vocab_size; }

absl::Status NotInVocabulary(const std::string& what, TokenId token, int64_t vocab_size) {
  // Ids travel unsigned: shown as they were sent.
  return absl::InvalidArgumentError(absl::StrCat(what, " is ", static_cast<uint32_t>(token),
                                                 ", must be below vocab_size ", vocab_size));
}

// Every step's draft waits for this: names are made for what is wrong alone.
absl::Status CheckRanking(const RowRanking& ranking, size_t index, int64_t vocab_size) {
  const auto name = [index] { return absl::StrCat("rankings[", index, "]"); };
  if (ranking.size > RowRanking::kMaxTokens) {
    return absl::InvalidArgumentError(absl::StrCat(name(), " has ", ranking.size,
                                                   " next_tokens, at most ", RowRanking::kMaxTokens,
                                                   " are allowed"));
  }
  if (!InVocabulary(ranking.token, vocab_size)) {
    return NotInVocabulary(absl::StrCat(name(), ".token"), ranking.token, vocab_size);
  }
  if (ranking.previous_token != -1 && !InVocabulary(ranking.previous_token, vocab_size)) {
    return NotInVocabulary(absl::StrCat(name(), ".previous_token"), ranking.previous_token,
                           vocab_size);
  }
  return CheckTokens("rankings.next_tokens", std::span(ranking.next_tokens).first(ranking.size),
                     vocab_size);
}

absl::Status CheckRankings(std::span<const RowRanking> rankings, int64_t vocab_size) {
  if (rankings.size() > kMaxRankings) {
    return absl::InvalidArgumentError(absl::StrCat(
        "there are ", rankings.size(), " rankings, at most ", kMaxRankings, " are allowed"));
  }
  for (size_t i = 0; i < rankings.size(); ++i) {
    if (absl::Status status = CheckRanking(rankings[i], i, vocab_size); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckVerifierId(const std::string& verifier_id) {
  return CheckLength("verifier_id", verifier_id, 1, kMaxVerifierIdBytes);
}

absl::Status CheckModel(const std::string& model_id, const std::string& tokenizer_fingerprint,
                        int64_t vocab_size) {
  absl::Status status = CheckLength("model_id", model_id, 1, kMaxModelIdBytes);
  status.Update(
      CheckLength("tokenizer_fingerprint", tokenizer_fingerprint, 1, kMaxFingerprintBytes));
  status.Update(CheckVocabulary(vocab_size));
  return status;
}

absl::Status CheckTenant(const std::string& tenant) {
  return CheckLength("tenant", tenant, 0, kMaxTenantBytes);
}

absl::Status CheckPolicy(const char* what, Policy policy) {
  switch (policy) {
    case Policy::kDefault:
    case Policy::kLocality:
    case Policy::kCalibrated:
      return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(what, " is ", static_cast<int>(policy),
                   ", which is not a policy (0: the default, 1: locality, 2: calibrated)"));
}

absl::Status CheckTokens(const char* what, std::span<const TokenId> tokens, int64_t vocab_size) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (InVocabulary(tokens[i], vocab_size)) continue;
    return NotInVocabulary(absl::StrCat(what, "[", i, "]"), tokens[i], vocab_size);
  }
  return absl::OkStatus();
}

absl::Status CheckUpdate(const SequenceUpdate& update, int64_t vocab_size,
                         size_t max_predicted_tokens) {
  absl::Status status = CheckPolicy("policy", update.policy);
  status.Update(CheckTokens("tokens", update.tokens, vocab_size));
  status.Update(CheckRankings(update.rankings, vocab_size));
  if (!status.ok()) return status;
  if (update.position > 0) {
    if (update.predicted_tokens.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("predicted_tokens come with position 0 only, not with ", update.position));
  }
  if (update.tokens.empty() && !update.close) {
    return absl::InvalidArgumentError("a sequence must start with at least one token");
  }
  if (update.prompt_length > update.tokens.size()) {
    return absl::InvalidArgumentError(absl::StrCat("prompt_length is ", update.prompt_length,
                                                   ", more than the ", update.tokens.size(),
                                                   " tokens sent"));
  }
  if (update.predicted_tokens.size() > max_predicted_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("there are ", update.predicted_tokens.size(),
                                                   " predicted_tokens, at most ",
                                                   max_predicted_tokens, " are allowed"));
  }
  status.Update(CheckTokens("predicted_tokens", update.predicted_tokens, vocab_size));
  status.Update(CheckTenant(update.tenant));
  return status;
}

}  // namespace strata::draft
