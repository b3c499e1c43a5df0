#include "services/draft/corpus/sst_output.h"

#include <rocksdb/cache.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/draft/corpus/database.h"
#include "services/draft/corpus/sst_session.h"

namespace strata::draft {

SstOutput::SstOutput(std::string dir, int part, uint64_t sst_bytes)
    : dir_(std::move(dir)),
      part_(part),
      sst_bytes_(sst_bytes),
      options_(DatabaseOptions(rocksdb::NewLRUCache(0))) {}

absl::Status SstOutput::Put(int group, std::string_view key, std::string_view value) {
  std::unique_ptr<rocksdb::SstFileWriter>& writer = writers_[group];
  if (writer == nullptr) {
    writer = std::make_unique<rocksdb::SstFileWriter>(rocksdb::EnvOptions(), options_);
    paths_[group] = absl::StrFormat("%s/%02d-%04d-%06d.sst", dir_, group, part_, finished_.size());
    const rocksdb::Status opened = writer->Open(paths_[group]);
    if (!opened.ok()) return FromRocksDb(opened, absl::StrCat("cannot create ", paths_[group]));
  }
  const rocksdb::Status put = writer->Put(key, value);
  if (!put.ok()) return FromRocksDb(put, absl::StrCat("cannot write ", paths_[group]));
  return writer->FileSize() > sst_bytes_ ? Close(group) : absl::OkStatus();
}

absl::Status SstOutput::Close(int group) {
  const rocksdb::Status finished = writers_[group]->Finish();
  writers_[group].reset();
  if (!finished.ok()) return FromRocksDb(finished, absl::StrCat("cannot write ", paths_[group]));
  finished_.push_back(paths_[group]);
  return RewriteSessionId(paths_[group]);
}

absl::Status SstOutput::Finish() {
  for (int group = 0; group <= kMaxContextOrder; ++group) {
    if (writers_[group] == nullptr) continue;
    absl::Status status = Close(group);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace strata::draft
