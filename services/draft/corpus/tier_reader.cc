#include "services/draft/corpus/tier_reader.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/atomic_file.h"

namespace strata::draft {
namespace {

// As the draft service reads them.
constexpr size_t kMaxFileBytes = size_t{4} << 30;

absl::StatusOr<ModelFileContent> Read(const std::string& path) {
  auto data = ReadWholeFile(path, kMaxFileBytes);
  if (!data.ok()) return data.status();
  return DecodeModelFile(*data);
}

}  // namespace

bool TierSelection::Chooses(const std::string& tenant) const {
  return all_tenants || std::find(tenants.begin(), tenants.end(), tenant) != tenants.end();
}

absl::Status CheckTierSelection(const TierSelection& selection) {
  const bool chosen = selection.all_tenants || !selection.tenants.empty();
  if (selection.inputs.empty()) {
    if (!chosen) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "--tenant and --all-tenants say whose model tiers go into the corpus; name them with "
        "--model-tiers");
  }
  if (!chosen) {
    return absl::InvalidArgumentError(
        "model tiers hold what a model answered to one tenant and are drafted from for that tenant "
        "alone, but a corpus is drafted from for all: say whose may go into it, with --tenant NAME "
        "(may be repeated) or --all-tenants");
  }
  if (selection.all_tenants && !selection.tenants.empty()) {
    return absl::InvalidArgumentError("give either --tenant or --all-tenants");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<InputFile>> ListTierFiles(const std::vector<std::string>& inputs) {
  auto files = ListInputs(inputs);
  if (!files.ok()) return files.status();
  std::vector<InputFile> tiers;
  for (InputFile& file : *files) {
    if (absl::EndsWith(file.path, kModelFileSuffix)) {
      tiers.push_back(std::move(file));
    } else if (file.named) {
      return absl::InvalidArgumentError(
          absl::StrCat(file.path, " is no saved model tier: those end in ", kModelFileSuffix));
    }
  }
  return tiers;
}

absl::Status ReadTierFile(const InputFile& file, const TierSelection& selection,
                          const std::string& tokenizer_fingerprint, int64_t vocab_size,
                          absl::FunctionRef<absl::Status(ModelSegment segment)> sink,
                          absl::FunctionRef<void(const std::string& warning)> warn,
                          TierCounts& counts) {
  auto content = Read(file.path);
  if (!content.ok()) {
    // One bad file must not keep what all the other replicas learned out of the corpus.
    ++counts.damaged;
    warn(absl::StrCat("model tier ", file.path, " is left out: ", content.status().message()));
    return absl::OkStatus();
  }
  if (!selection.Chooses(content->key.tenant)) {
    ++counts.other_tenants;
    return absl::OkStatus();
  }
  if (content->key.tokenizer_fingerprint != tokenizer_fingerprint) {
    return absl::FailedPreconditionError(
        absl::StrCat(file.path, " is of tokenizer ", content->key.tokenizer_fingerprint, " (model ",
                     content->key.model_id, "), the corpus of ", tokenizer_fingerprint,
                     ": its tokens mean nothing there"));
  }
  ++counts.files;
  for (ModelSegment& segment : content->segments) {
    const bool known = std::all_of(segment.tokens.begin(), segment.tokens.end(),
                                   [&](TokenId token) { return token < vocab_size; });
    if (!known) {
      ++counts.segments_left_out;
      continue;
    }
    absl::Status status = sink(std::move(segment));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace strata::draft
