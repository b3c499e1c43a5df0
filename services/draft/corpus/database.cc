#include "services/draft/corpus/database.h"

#include <rocksdb/cache.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "services/draft/corpus/file_util.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;

// Blocks that are read once, to check a file, need no cache to speak of.
constexpr size_t kCheckCacheBytes = 8 << 20;

// RocksDB would else write a LOG into the snapshot, which is immutable.
class NoLog : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

// What RocksDB writes of when and where a database was made, for which a snapshot has no use: the
// same for all, so that equal snapshots have equal files.
class AnonymousEnv : public rocksdb::EnvWrapper {
 public:
  AnonymousEnv() : rocksdb::EnvWrapper(rocksdb::Env::Default()) {}
  const char* Name() const override { return "Anonymous"; }
  // Of files, in seconds; 0 would be unknown.
  rocksdb::Status GetCurrentTime(int64_t* time) override {
    *time = 1;
    return rocksdb::Status::OK();
  }
  // Of the database.
  std::string GenerateUniqueId() override { return "strata-corpus"; }
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

rocksdb::Options DatabaseOptions(std::shared_ptr<rocksdb::Cache> block_cache) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = std::move(block_cache);
  // Measured on the recorded answers, decoded contexts not cached (us a query with blocks cached /
  // from the page cache; bytes a token): these 2.6 / 11.3; 3.5. Restarts each 16 keys 2.7 / 11.8;
  // 3.4. Blocks of 4 KiB 2.7 / 9.6; 3.5, of 16 KiB 2.6 / 14.4; 3.3. Uncompressed 2.9 / 9.0; 4.3,
  // zstd 2.8 / 25; 2.5. A hash index in the blocks: as without. One index and one filter a file
  // instead of partitions: 2.0 / 14.2, but blocks of a megabyte that a small cache cannot hold.
  table.block_size = 8 << 10;
  table.block_restart_interval = 4;
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

absl::Status MakeDatabase(std::vector<std::string> files, const std::string& database_dir) {
  std::sort(files.begin(), files.end());
  rocksdb::Options options = DatabaseOptions(rocksdb::NewLRUCache(kCheckCacheBytes));
  AnonymousEnv env;
  options.env = &env;
  options.create_if_missing = true;
  options.error_if_exists = true;
  rocksdb::DB* raw = nullptr;
  rocksdb::Status status = rocksdb::DB::Open(options, database_dir, &raw);
  std::unique_ptr<rocksdb::DB> db(raw);
  if (status.ok()) {
    rocksdb::IngestExternalFileOptions ingest;
    ingest.move_files = true;
    ingest.verify_checksums_before_ingest = true;
    status = db->IngestExternalFile(files, ingest);
  }
  if (status.ok()) status = db->Close();
  db.reset();
  if (!status.ok()) return FromRocksDb(status, absl::StrCat("cannot make ", database_dir));
  // What a read-only database does not need, and what names this machine's folders.
  std::error_code error;
  std::vector<fs::path> surplus;
  for (const auto& entry : fs::directory_iterator(database_dir, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("LOG") || name.starts_with("LOCK") || name.starts_with("OPTIONS")) {
      surplus.push_back(entry.path());
    }
  }
  for (const auto& path : surplus) fs::remove(path, error);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<rocksdb::DB>> OpenDatabase(
    const std::string& snapshot_dir, std::shared_ptr<rocksdb::Cache> block_cache,
    std::shared_ptr<rocksdb::Statistics> statistics) {
  const std::string path = (fs::path(snapshot_dir) / kDatabaseName).string();
  rocksdb::DB* db = nullptr;
  rocksdb::Options options = DatabaseOptions(std::move(block_cache));
  options.statistics = std::move(statistics);
  const rocksdb::Status status = rocksdb::DB::OpenForReadOnly(options, path, &db);
  std::unique_ptr<rocksdb::DB> owned(db);
  if (!status.ok()) return FromRocksDb(status, absl::StrCat("cannot open ", path));
  return owned;
}

}  // namespace strata::draft
