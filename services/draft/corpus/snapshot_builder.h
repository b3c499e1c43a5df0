#ifndef STRATA_SERVICES_DRAFT_CORPUS_SNAPSHOT_BUILDER_H_
#define STRATA_SERVICES_DRAFT_CORPUS_SNAPSHOT_BUILDER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/draft/corpus/context_trie.h"
#include "services/draft/corpus/manifest.h"
#include "services/draft/corpus/ngram_counter.h"

namespace strata::draft {

struct BuilderOptions {
  CountOptions count;
  // For the windows being sorted, or for the merge; see NgramCounter.
  size_t memory_bytes = size_t{1} << 30;
  // An SST file is closed when it is larger.
  uint64_t sst_bytes = uint64_t{256} << 20;
  // Name of the snapshot's folder; empty: the time, as 20250131T235959Z.
  std::string name;
};

// Builds one snapshot from documents of tokens: ROOT/<name>/, and at the end
// ROOT/CURRENT. Until the manifest is written, which comes last, the folder is no
// snapshot to any reader. Not thread-safe.
class SnapshotBuilder {
 public:
  // Makes `root`, if need be, and the snapshot's folder. INVALID_ARGUMENT for an
  // option, a vocabulary of more than kMaxVocab or a name that is no plain folder name;
  // ALREADY_EXISTS if there is a folder of that name.
  static absl::StatusOr<std::unique_ptr<SnapshotBuilder>> Create(
      const std::string& root, const std::string& tokenizer_fingerprint, int64_t vocab_size,
      const BuilderOptions& options);
  // Removes the folder if Finish has not succeeded.
  ~SnapshotBuilder();

  // Counts a document, or the next piece of one (`continues`): contexts do not reach
  // from one piece into the next. INVALID_ARGUMENT for a token out of range.
  absl::Status AddDocument(std::span<const TokenId> tokens, bool continues = false);

  // Writes the database and the manifest and moves CURRENT. INVALID_ARGUMENT if there
  // were no tokens; FAILED_PRECONDITION if no context was left. `progress` is
  // called now and then with a share in [0, 1]; `check` often, and an error of it ends
  // the build. Call at most once.
  absl::StatusOr<Manifest> Finish(
      const std::function<void(double)>& progress = [](double) {},
      const std::function<absl::Status()>& check = [] { return absl::OkStatus(); });

  // The snapshot's folder.
  const std::string& path() const { return path_; }
  const std::string& name() const { return name_; }
  int spilled_runs() const { return counter_.spilled_runs(); }

 private:
  SnapshotBuilder(std::string root, std::string name, std::string path,
                  const BuilderOptions& options, Manifest manifest);
  // Lists the files with their checksums in the manifest and makes them durable.
  absl::Status ListFiles();

  const std::string root_;
  const std::string name_;
  const std::string path_;
  const BuilderOptions options_;
  Manifest manifest_;
  NgramCounter counter_;
  bool finished_ = false;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_SNAPSHOT_BUILDER_H_
