#ifndef STRATA_SERVICES_DRAFT_CORPUS_SST_OUTPUT_H_
#define STRATA_SERVICES_DRAFT_CORPUS_SST_OUTPUT_H_

#include <rocksdb/options.h>
#include <rocksdb/sst_file_writer.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "services/draft/tiers/evidence.h"

namespace strata::draft {

// Writes the rows of one part of the key space to sorted SST files, each group of keys (the
// contexts of one order) to files of its own. The same rows give the same bytes. Not thread-safe.
class SstOutput {
 public:
  // Files go to `dir`, which exists; `part` numbers the parts in the order of their keys. A file is
  // closed when it has more than `sst_bytes`.
  SstOutput(std::string dir, int part, uint64_t sst_bytes);

  // `group` is 0 to kMaxContextOrder, ascending as the keys do; keys of a group must ascend.
  absl::Status Put(int group, std::string_view key, std::string_view value);
  // Closes the last files. No Put after it.
  absl::Status Finish();

  // Paths of the files; they sort as the keys of all parts do.
  const std::vector<std::string>& files() const { return finished_; }

 private:
  absl::Status Close(int group);

  const std::string dir_;
  const int part_;
  const uint64_t sst_bytes_;
  const rocksdb::Options options_;
  std::array<std::unique_ptr<rocksdb::SstFileWriter>, kMaxContextOrder + 1> writers_;
  std::array<std::string, kMaxContextOrder + 1> paths_;
  std::vector<std::string> finished_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_SST_OUTPUT_H_
