#ifndef STRATA_SERVICES_DRAFT_CORPUS_DATABASE_H_
#define STRATA_SERVICES_DRAFT_CORPUS_DATABASE_H_

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/statistics.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/draft/corpus/manifest.h"

// The RocksDB of a snapshot. Private to this folder: no other part sees RocksDB.
namespace strata::draft {

// What both sides agree on. `block_cache` holds data, index and filter blocks, and bounds them.
// Writes no log file, so that a read-only folder will do.
rocksdb::Options DatabaseOptions(std::shared_ptr<rocksdb::Cache> block_cache);

// Corruption becomes DATA_LOSS; `what` begins the message.
absl::Status FromRocksDb(const rocksdb::Status& status, const std::string& what);

// Checks that every file of the manifest is there with its size, and the checksums of the small
// ones (all but the SST files). DATA_LOSS names the file.
absl::Status CheckFiles(const std::string& snapshot_dir, const Manifest& manifest);

// Checks every checksum of the manifest. DATA_LOSS names the file.
absl::Status CheckAllChecksums(const std::string& snapshot_dir, const Manifest& manifest);

// Makes a database of the finished SST files, which are moved, at `database_dir`. Their names must
// sort as their keys do. The same SST files give the same bytes in every file.
absl::Status MakeDatabase(std::vector<std::string> files, const std::string& database_dir);

// Opens the database read-only, as many processes at once may. `statistics` may be null.
absl::StatusOr<std::unique_ptr<rocksdb::DB>> OpenDatabase(
    const std::string& snapshot_dir, std::shared_ptr<rocksdb::Cache> block_cache,
    std::shared_ptr<rocksdb::Statistics> statistics = nullptr);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_DATABASE_H_
