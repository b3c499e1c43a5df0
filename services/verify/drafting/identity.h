#ifndef STRATA_SERVICES_VERIFY_DRAFTING_IDENTITY_H_
#define STRATA_SERVICES_VERIFY_DRAFTING_IDENTITY_H_

#include <cstdint>
#include <string>

namespace strata::verify {

// Who asks for drafts, and in which vocabulary: strata.v1.Handshake in process.
struct DraftIdentity {
  std::string verifier_id;
  std::string model_id;
  // Tokenizer::fingerprint().
  std::string tokenizer_fingerprint;
  int64_t vocab_size = 0;
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_DRAFTING_IDENTITY_H_
