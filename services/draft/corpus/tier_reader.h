#ifndef STRATA_SERVICES_DRAFT_CORPUS_TIER_READER_H_
#define STRATA_SERVICES_DRAFT_CORPUS_TIER_READER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "services/draft/corpus/input_list.h"
#include "services/draft/tiers/model_file.h"

namespace strata::draft {

// Whose saved model tiers go into a corpus. A tier is its tenant's alone, and a corpus is
// everybody's: so somebody has to say so, by name or for all.
struct TierSelection {
  // Folders, searched with all below them, and files.
  std::vector<std::string> inputs;
  std::vector<std::string> tenants;
  bool all_tenants = false;

  bool Chooses(const std::string& tenant) const;
};

// INVALID_ARGUMENT unless it is said whose tiers are meant, and just once; or if no inputs are
// named but tenants are.
absl::Status CheckTierSelection(const TierSelection& selection);

// The files that a draft service saved model tiers to (*.tier), by path within each input. Errors
// as ListInputs; INVALID_ARGUMENT for a file that was named and is none by its name.
absl::StatusOr<std::vector<InputFile>> ListTierFiles(const std::vector<std::string>& inputs);

struct TierCounts {
  // Read and used.
  uint64_t files = 0;
  // Left out: of tenants that were not chosen; damaged, vanished or of a foreign format.
  uint64_t other_tenants = 0;
  uint64_t damaged = 0;
  // Left out because of a token that the tokenizer does not have (models may have more ids).
  uint64_t segments_left_out = 0;
};

// Reads the segments of one file that are to be counted: those of chosen tenants. One that cannot
// be read is left out, and `warn` is told why. FAILED_PRECONDITION for a tier of another tokenizer,
// whose ids mean nothing here; else the sink's first error.
absl::Status ReadTierFile(const InputFile& file, const TierSelection& selection,
                          const std::string& tokenizer_fingerprint, int64_t vocab_size,
                          absl::FunctionRef<absl::Status(ModelSegment segment)> sink,
                          absl::FunctionRef<void(const std::string& warning)> warn,
                          TierCounts& counts);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_TIER_READER_H_
