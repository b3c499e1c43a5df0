#ifndef STRATA_SERVICES_DRAFT_CORPUS_ROW_WRITER_H_
#define STRATA_SERVICES_DRAFT_CORPUS_ROW_WRITER_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/draft/corpus/count_options.h"
#include "services/draft/corpus/windows.h"

namespace strata::draft {

// Opens everything that is known of the windows whose context begins with a token in [first, last).
// Called from several threads at once.
using WindowSource = std::function<absl::StatusOr<std::vector<std::unique_ptr<WindowCursor>>>(
    TokenId first, TokenId last)>;
// Occurrences of windows by the first token of their context.
using WindowCounts = std::map<TokenId, uint64_t>;

struct RowWriterOptions {
  CountOptions count;
  uint64_t sst_bytes = 0;  // a file is closed when it is larger
  // Windows that are worth a part of their own.
  uint64_t part_windows = 0;
  int threads = 1;
  std::string dir;  // for the files
  std::function<void(double)> progress;
  std::function<absl::Status()> check;  // an error of it ends the work; from any thread
};

struct WrittenRows {
  std::vector<std::string> files;  // SST files
  // By order, as Manifest::contexts.
  std::vector<uint64_t> contexts;
};

// Cuts the key space into parts by the counts alone, so that files do not depend on the number of
// threads, and turns each part's windows into sorted files of rows, on several threads.
// FAILED_PRECONDITION if no row is left.
absl::StatusOr<WrittenRows> WriteRows(const WindowSource& source, const WindowCounts& counts,
                                      const RowWriterOptions& options);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_ROW_WRITER_H_
