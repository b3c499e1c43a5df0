#ifndef STRATA_SERVICES_DRAFT_CORPUS_SST_OUTPUT_H_
#define STRATA_SERVICES_DRAFT_CORPUS_SST_OUTPUT_H_

#include <rocksdb/options.h>
#include <rocksdb/sst_file_writer.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "services/draft/corpus/snapshot_format.h"

namespace strata::draft {

// Writes contexts to sorted SST files, each order to files of its own, and makes a
// RocksDB of them. The same contexts give the same bytes. Not thread-safe.
class SstOutput {
 public:
  // `staging_dir` exists; files are there until Ingest. A file is closed when it
  // has more than `sst_bytes`.
  SstOutput(std::string staging_dir, uint64_t sst_bytes);

  // Contexts of one order must come ascending by their tokens.
  absl::Status Put(std::span<const TokenId> context, const ContextValue& value);
  // Moves all files into a new database at `database_dir` and closes it. No Put
  // after it. FAILED_PRECONDITION if there was no context.
  absl::Status Ingest(const std::string& database_dir);

  uint64_t contexts(int order) const { return contexts_[order]; }

 private:
  absl::Status Close(int order);

  const std::string staging_dir_;
  const uint64_t sst_bytes_;
  const rocksdb::Options options_;
  std::array<std::unique_ptr<rocksdb::SstFileWriter>, kMaxOrder + 1> writers_;
  std::array<std::string, kMaxOrder + 1> paths_;
  std::array<uint64_t, kMaxOrder + 1> contexts_{};
  std::vector<std::string> finished_;
  std::string key_;
  std::string value_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_SST_OUTPUT_H_
