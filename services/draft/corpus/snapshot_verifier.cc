#include "services/draft/corpus/snapshot_verifier.h"

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/draft/corpus/database.h"
#include "services/draft/corpus/snapshot_format.h"

namespace strata::draft {
namespace {

constexpr size_t kCacheBytes = 32 << 20;

// What the builder's options promise about a value, beyond what any value keeps.
absl::Status CheckOptions(const ContextValue& value, const CountOptions& options) {
  if (value.total < options.prune_count) {
    return absl::DataLossError("damaged value: a count below prune_count");
  }
  if (value.branches.size() > static_cast<size_t>(options.top)) {
    return absl::DataLossError("damaged value: more continuations than the options say");
  }
  for (const Branch& branch : value.branches) {
    if (branch.length > options.depth) {
      return absl::DataLossError("damaged value: a longer continuation than the options say");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<VerifyReport> VerifySnapshot(const std::string& snapshot_dir,
                                            const std::function<void(double)>& progress) {
  auto manifest = ReadManifest(snapshot_dir);
  if (!manifest.ok()) return manifest.status();
  absl::Status status = CheckAllChecksums(snapshot_dir, *manifest);
  if (!status.ok()) return status;
  auto db = OpenDatabase(snapshot_dir, kCacheBytes);
  if (!db.ok()) return db.status();
  status = FromRocksDb((*db)->VerifyChecksum(), snapshot_dir);
  if (!status.ok()) return status;

  VerifyReport report;
  report.files = manifest->files.size();
  report.bytes = manifest->file_bytes();
  const std::vector<int>& orders = manifest->options.orders;
  const double expected = static_cast<double>(std::max<uint64_t>(manifest->context_count(), 1));
  std::array<uint64_t, kMaxOrder + 1> contexts{};
  std::vector<TokenId> context;
  ContextValue value;
  rocksdb::ReadOptions read;
  read.fill_cache = false;
  read.readahead_size = 1 << 20;
  const std::unique_ptr<rocksdb::Iterator> at((*db)->NewIterator(read));
  for (at->SeekToFirst(); at->Valid(); at->Next()) {
    status = DecodeKey(at->key().ToStringView(), manifest->vocab_size, context);
    if (status.ok() && !std::binary_search(orders.begin(), orders.end(), context.size())) {
      status = absl::DataLossError("damaged key: an order that the manifest does not list");
    }
    if (status.ok()) {
      status = DecodeValue(at->value().ToStringView(), manifest->vocab_size, value);
    }
    if (status.ok()) status = CheckOptions(value, manifest->options);
    if (!status.ok()) {
      return absl::DataLossError(absl::StrCat("corpus snapshot ", snapshot_dir, ": context number ",
                                              report.contexts, ": ", status.message()));
    }
    ++contexts[context.size()];
    report.continuations += value.branches.size();
    if (++report.contexts % 65536 == 0) progress(static_cast<double>(report.contexts) / expected);
  }
  status = FromRocksDb(at->status(), snapshot_dir);
  if (!status.ok()) return status;
  for (size_t i = 0; i < orders.size(); ++i) {
    if (contexts[orders[i]] != manifest->contexts[i]) {
      return absl::DataLossError(absl::StrCat("corpus snapshot ", snapshot_dir, ": ",
                                              contexts[orders[i]], " contexts of order ", orders[i],
                                              "; the manifest says ", manifest->contexts[i]));
    }
  }
  progress(1.0);
  return report;
}

}  // namespace strata::draft
