#ifndef STRATA_SERVICES_DRAFT_TIERS_MODEL_KEY_H_
#define STRATA_SERVICES_DRAFT_TIERS_MODEL_KEY_H_

#include <string>
#include <utility>

namespace strata::draft {

// Whose output a model tier holds. Two keys that differ in any field share nothing.
struct ModelKey {
  std::string model_id;
  // Ids of one tokenizer mean nothing in another, even under the same model id.
  std::string tokenizer_fingerprint;
  std::string tenant;

  friend bool operator==(const ModelKey&, const ModelKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const ModelKey& key) {
    return H::combine(std::move(h), key.model_id, key.tokenizer_fingerprint, key.tenant);
  }
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_MODEL_KEY_H_
