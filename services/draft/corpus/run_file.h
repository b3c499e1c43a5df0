#ifndef STRATA_SERVICES_DRAFT_CORPUS_RUN_FILE_H_
#define STRATA_SERVICES_DRAFT_CORPUS_RUN_FILE_H_

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/draft_tree.h"
#include "services/draft/corpus/window_sorter.h"

namespace strata::draft {

// A temporary file of sorted, distinct windows with counts, front-coded: each
// window as the length it shares with the one before, then the rest.
// Not thread-safe.
class RunWriter {
 public:
  // Errors name `path` and the system's reason.
  static absl::StatusOr<std::unique_ptr<RunWriter>> Create(const std::string& path);
  ~RunWriter();
  // Windows in the order and form that WindowSink describes.
  absl::Status Add(std::span<const TokenId> window, uint64_t count);
  // No Add after it. The file is complete only if this returned OK.
  absl::Status Finish();

 private:
  RunWriter(std::string path, FILE* file);
  absl::Status Flush();

  const std::string path_;
  FILE* file_;
  std::string buffer_;
  std::vector<TokenId> last_;
};

// Merges run files: each distinct window once, ascending, with the sum of its
// counts. Memory: about 64 KiB a file. DATA_LOSS if a file ends too early.
absl::Status MergeRuns(std::span<const std::string> paths, WindowSink sink);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_RUN_FILE_H_
