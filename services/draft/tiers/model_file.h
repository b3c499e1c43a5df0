#ifndef STRATA_SERVICES_DRAFT_TIERS_MODEL_FILE_H_
#define STRATA_SERVICES_DRAFT_TIERS_MODEL_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/draft_tree.h"
#include "services/draft/tiers/model_key.h"

namespace strata::draft {

// What the names of saved model tiers end in.
inline constexpr char kModelFileSuffix[] = ".tier";

// A stretch of one sequence: n-grams that end at [first_key, end_key) are taught, the tokens
// before are their beginnings and those after their continuations.
struct ModelSegment {
  std::vector<TokenId> tokens;
  uint32_t first_key = 0;
  uint32_t end_key = 0;
};

// What one model tier holds, the oldest segment first.
struct ModelFileContent {
  ModelKey key;
  std::vector<ModelSegment> segments;
  // See ModelStore::SetCalibration.
  std::string calibration;
};

// The saved form. All integers little-endian:
//   8 bytes  "STRATAMT"
//   u32      format version, 2
//   u32      0
//   u64      length of the body in bytes
//   u64      XXH3-64 of the body
//   body:    three strings (u32 length, bytes): model id, tokenizer fingerprint, tenant;
//            u64 number of segments; each segment: u32 tokens, u32 first_key, u32 end_key,
//            u32 token ids; the calibration (u32 length, bytes), which version 1 does not have
std::string EncodeModelFile(const ModelFileContent& content);

// DATA_LOSS says what is damaged; FAILED_PRECONDITION a format version that this build does not
// read. Every token of the result is >= 0 and every key range fits its segment.
absl::StatusOr<ModelFileContent> DecodeModelFile(absl::string_view data);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_MODEL_FILE_H_
