#include "services/draft/corpus/sst_output.h"

#include <rocksdb/db.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/draft/corpus/database.h"
#include "services/draft/corpus/sst_session.h"

namespace strata::draft {
namespace {

// Blocks that are read once, to check a file, need no cache to speak of.
constexpr size_t kCacheBytes = 8 << 20;

}  // namespace

SstOutput::SstOutput(std::string staging_dir, uint64_t sst_bytes)
    : staging_dir_(std::move(staging_dir)),
      sst_bytes_(sst_bytes),
      options_(DatabaseOptions(kCacheBytes)) {}

absl::Status SstOutput::Put(std::span<const TokenId> context, const ContextValue& value) {
  const int order = static_cast<int>(context.size());
  std::unique_ptr<rocksdb::SstFileWriter>& writer = writers_[order];
  if (writer == nullptr) {
    writer = std::make_unique<rocksdb::SstFileWriter>(rocksdb::EnvOptions(), options_);
    // The names sort as the keys do, so that ingestion numbers the files the same way each time.
    paths_[order] = absl::StrFormat("%s/%02d-%08d.sst", staging_dir_, order, finished_.size());
    const rocksdb::Status opened = writer->Open(paths_[order]);
    if (!opened.ok()) return FromRocksDb(opened, absl::StrCat("cannot create ", paths_[order]));
  }
  EncodeKey(context, key_);
  EncodeValue(value, value_);
  const rocksdb::Status put = writer->Put(key_, value_);
  if (!put.ok()) return FromRocksDb(put, absl::StrCat("cannot write ", paths_[order]));
  ++contexts_[order];
  return writer->FileSize() > sst_bytes_ ? Close(order) : absl::OkStatus();
}

absl::Status SstOutput::Close(int order) {
  const rocksdb::Status finished = writers_[order]->Finish();
  writers_[order].reset();
  if (!finished.ok()) return FromRocksDb(finished, absl::StrCat("cannot write ", paths_[order]));
  finished_.push_back(paths_[order]);
  return RewriteSessionId(paths_[order]);
}

absl::Status SstOutput::Ingest(const std::string& database_dir) {
  for (int order = 1; order <= kMaxOrder; ++order) {
    if (writers_[order] == nullptr) continue;
    absl::Status status = Close(order);
    if (!status.ok()) return status;
  }
  if (finished_.empty()) {
    return absl::FailedPreconditionError(
        "no context is left: the documents are too short for the orders asked for, or "
        "prune-count is higher than any count");
  }
  std::sort(finished_.begin(), finished_.end());
  rocksdb::Options options = options_;
  options.create_if_missing = true;
  options.error_if_exists = true;
  rocksdb::DB* raw = nullptr;
  rocksdb::Status status = rocksdb::DB::Open(options, database_dir, &raw);
  std::unique_ptr<rocksdb::DB> db(raw);
  if (status.ok()) {
    rocksdb::IngestExternalFileOptions ingest;
    ingest.move_files = true;
    ingest.verify_checksums_before_ingest = true;
    status = db->IngestExternalFile(finished_, ingest);
  }
  if (status.ok()) status = db->Close();
  db.reset();
  if (!status.ok()) return FromRocksDb(status, absl::StrCat("cannot make ", database_dir));
  // What a read-only database does not need, and what names this machine's folders.
  std::error_code error;
  std::vector<std::filesystem::path> surplus;
  for (const auto& entry : std::filesystem::directory_iterator(database_dir, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("LOG") || name.starts_with("LOCK") || name.starts_with("OPTIONS")) {
      surplus.push_back(entry.path());
    }
  }
  for (const auto& path : surplus) std::filesystem::remove(path, error);
  return absl::OkStatus();
}

}  // namespace strata::draft
