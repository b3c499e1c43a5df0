#include "services/draft/corpus/snapshot_verifier.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/draft/corpus/database.h"
#include "services/draft/corpus/snapshot_format.h"
#include "services/draft/corpus/varint.h"

namespace strata::draft {
namespace {

constexpr size_t kCacheBytes = 32 << 20;

// What the builder's options promise about a context, beyond what any keeps.
absl::Status CheckOptions(int order, const ContextNode& node, const CountOptions& options) {
  if (order > 1 && node.total < options.prune_count) {
    return absl::DataLossError("damaged value: a context rarer than prune_count");
  }
  if (order > 1 && node.ranked[node.size - 1].count < options.prune_continuations) {
    return absl::DataLossError("damaged value: a continuation rarer than prune_continuations");
  }
  if (node.size > options.top) {
    return absl::DataLossError("damaged value: more continuations than the options say");
  }
  return absl::OkStatus();
}

// Decodes rows one after another and counts what they hold.
class RowChecker {
 public:
  RowChecker(const Manifest& manifest, VerifyReport& report)
      : manifest_(manifest), report_(report) {}

  absl::Status Check(std::string_view key, std::string_view value) {
    if (manifest_.options.shard) return CheckShard(key, value);
    absl::Status status = DecodeKey(key, manifest_.vocab_size, context_);
    if (!status.ok()) return status;
    const int order = static_cast<int>(context_.size());
    if (order > manifest_.options.max_order) {
      return absl::DataLossError("damaged key: an order above the manifest's");
    }
    return RowWalker::VisitAll(value, manifest_.vocab_size, manifest_.options.max_order - order,
                               [&](std::span<const TokenId> below, const ContextNode& node) {
                                 const int depth = order + static_cast<int>(below.size());
                                 ++contexts_[depth];
                                 ++report_.contexts;
                                 report_.continuations += static_cast<uint64_t>(node.size);
                                 return CheckOptions(depth, node, manifest_.options);
                               });
  }
  uint64_t contexts(int order) const { return contexts_[order]; }

 private:
  absl::Status CheckShard(std::string_view key, std::string_view value) {
    TokenId token;
    if (DecodeShardCountKey(key, manifest_.vocab_size, token).ok()) {
      VarintReader in(value);
      uint64_t windows;
      if (in.Read(windows) && in.done() && windows == windows_[token]) return absl::OkStatus();
      return absl::DataLossError("damaged value: count of windows");
    }
    absl::Status status = DecodeShardKey(key, manifest_.vocab_size, context_);
    if (status.ok()) status = DecodeShardValue(value, manifest_.vocab_size, next_);
    if (!status.ok()) return status;
    if (context_.size() > static_cast<size_t>(manifest_.options.max_order)) {
      return absl::DataLossError("damaged key: an order above the manifest's");
    }
    for (const RankedToken& next : next_) windows_[context_[0]] += next.count;
    ++contexts_[context_.size()];
    ++report_.contexts;
    report_.continuations += next_.size();
    return absl::OkStatus();
  }

  const Manifest& manifest_;
  VerifyReport& report_;
  std::array<uint64_t, kMaxContextOrder + 1> contexts_{};
  std::vector<TokenId> context_;
  std::vector<RankedToken> next_;
  std::map<TokenId, uint64_t> windows_;
};

}  // namespace

absl::StatusOr<VerifyReport> VerifySnapshot(const std::string& snapshot_dir,
                                            const std::function<void(double)>& progress) {
  auto manifest = ReadManifest(snapshot_dir);
  if (!manifest.ok()) return manifest.status();
  absl::Status status = CheckAllChecksums(snapshot_dir, *manifest);
  if (!status.ok()) return status;
  auto db = OpenDatabase(snapshot_dir, rocksdb::NewLRUCache(kCacheBytes));
  if (!db.ok()) return db.status();
  status = FromRocksDb((*db)->VerifyChecksum(), snapshot_dir);
  if (!status.ok()) return status;

  VerifyReport report;
  report.files = manifest->files.size();
  report.bytes = manifest->file_bytes();
  const double expected = static_cast<double>(std::max<uint64_t>(manifest->context_count(), 1));
  RowChecker checker(*manifest, report);
  rocksdb::ReadOptions read;
  read.fill_cache = false;
  read.readahead_size = 1 << 20;
  const std::unique_ptr<rocksdb::Iterator> at((*db)->NewIterator(read));
  uint64_t rows = 0;
  for (at->SeekToFirst(); at->Valid(); at->Next()) {
    status = checker.Check(at->key().ToStringView(), at->value().ToStringView());
    if (!status.ok()) {
      return absl::DataLossError(absl::StrCat("corpus snapshot ", snapshot_dir, ": row number ",
                                              rows, ": ", status.message()));
    }
    if (++rows % 65536 == 0) progress(static_cast<double>(report.contexts) / expected);
  }
  status = FromRocksDb(at->status(), snapshot_dir);
  if (!status.ok()) return status;
  for (int order = 1; order <= manifest->options.max_order; ++order) {
    const uint64_t told = manifest->contexts[static_cast<size_t>(order - 1)];
    if (checker.contexts(order) != told) {
      return absl::DataLossError(absl::StrCat("corpus snapshot ", snapshot_dir, ": ",
                                              checker.contexts(order), " contexts of order ", order,
                                              "; the manifest says ", told));
    }
  }
  progress(1.0);
  return report;
}

}  // namespace strata::draft
