#include "services/draft/corpus/database.h"

#include <rocksdb/cache.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "services/draft/corpus/file_util.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;

// RocksDB would else write a LOG into the snapshot, which is immutable.
class NoLog : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

absl::Status CheckFile(const std::string& snapshot_dir, const Manifest::File& file,
                       bool with_checksum) {
  const std::string path = (fs::path(snapshot_dir) / file.path).string();
  std::error_code error;
  const uint64_t size = fs::file_size(path, error);
  if (error) {
    return absl::DataLossError(
        absl::StrCat("corpus snapshot: ", path, " is in the manifest but: ", error.message()));
  }
  if (size != file.size) {
    return absl::DataLossError(absl::StrCat("corpus snapshot: ", path, " has ", size,
                                            " bytes; the manifest says ", file.size));
  }
  if (!with_checksum) return absl::OkStatus();
  auto digest = DigestFile(path);
  if (!digest.ok()) return digest.status();
  if (digest->xxh3 != file.xxh3) {
    return absl::DataLossError(absl::StrCat("corpus snapshot: ", path, " has the checksum ",
                                            digest->xxh3, "; the manifest says ", file.xxh3));
  }
  return absl::OkStatus();
}

}  // namespace

rocksdb::Options DatabaseOptions(size_t block_cache_bytes) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(block_cache_bytes);
  table.block_size = 8 << 10;
  // Index and filters count against the cache too: the memory does not grow with the snapshot.
  table.index_type = rocksdb::BlockBasedTableOptions::kTwoLevelIndexSearch;
  table.partition_filters = true;
  table.metadata_block_size = 4 << 10;
  table.cache_index_and_filter_blocks = true;
  table.pin_top_level_index_and_filter = true;
  // Most lookups of the long orders find nothing and should not read a block.
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.format_version = 5;
  // RewriteSessionId relies on it.
  table.checksum = rocksdb::kxxHash64;

  rocksdb::Options options;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.compression = rocksdb::kLZ4Compression;
  options.info_log = std::make_shared<NoLog>();
  options.max_open_files = -1;
  options.disable_auto_compactions = true;
  // Else the name of the building machine would be in every file.
  options.db_host_id = "";
  return options;
}

absl::Status FromRocksDb(const rocksdb::Status& status, const std::string& what) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = absl::StrCat(what, ": ", status.ToString());
  if (status.IsCorruption()) return absl::DataLossError(message);
  if (status.IsNoSpace()) return absl::ResourceExhaustedError(message);
  if (status.IsInvalidArgument()) return absl::FailedPreconditionError(message);
  return absl::UnavailableError(message);
}

absl::Status CheckFiles(const std::string& snapshot_dir, const Manifest& manifest) {
  for (const Manifest::File& file : manifest.files) {
    absl::Status status = CheckFile(snapshot_dir, file, !absl::EndsWith(file.path, ".sst"));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status CheckAllChecksums(const std::string& snapshot_dir, const Manifest& manifest) {
  for (const Manifest::File& file : manifest.files) {
    absl::Status status = CheckFile(snapshot_dir, file, true);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<rocksdb::DB>> OpenDatabase(const std::string& snapshot_dir,
                                                          size_t block_cache_bytes) {
  const std::string path = (fs::path(snapshot_dir) / kDatabaseName).string();
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status =
      rocksdb::DB::OpenForReadOnly(DatabaseOptions(block_cache_bytes), path, &db);
  std::unique_ptr<rocksdb::DB> owned(db);
  if (!status.ok()) return FromRocksDb(status, absl::StrCat("cannot open ", path));
  return owned;
}

}  // namespace strata::draft
