#include "services/draft/corpus/merge.h"

#include <rocksdb/cache.h>

#include <filesystem>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/draft/corpus/database.h"
#include "services/draft/corpus/snapshot_format.h"
#include "services/draft/corpus/varint.h"

namespace strata::draft {
namespace {

// For all shards together; they are read from the front to the back.
constexpr size_t kCacheBytes = 8 << 20;
constexpr size_t kReadAheadBytes = 256 << 10;

struct Shard {
  std::string path;
  Manifest manifest;
  std::unique_ptr<rocksdb::DB> db;
};

class ShardCursor final : public WindowCursor {
 public:
  ShardCursor(const Shard& shard, TokenId first, TokenId last)
      : shard_(shard),
        end_key_(last < kMaxVocab ? EncodeShardKey({&last, 1}) : EncodeShardCountKey(0)),
        end_(end_key_) {
    rocksdb::ReadOptions options;
    options.fill_cache = false;
    options.readahead_size = kReadAheadBytes;
    options.iterate_upper_bound = &end_;
    at_.reset(shard.db->NewIterator(options));
    at_->Seek(EncodeShardKey({&first, 1}));
  }

  absl::Status Next() override {
    if (++index_ < next_.size()) return absl::OkStatus();
    if (started_) at_->Next();
    started_ = true;
    if (!at_->Valid()) {
      done_ = true;
      return FromRocksDb(at_->status(), shard_.path);
    }
    const int64_t vocab_size = shard_.manifest.vocab_size;
    absl::Status status = DecodeShardKey(at_->key().ToStringView(), vocab_size, context_);
    if (status.ok()) status = DecodeShardValue(at_->value().ToStringView(), vocab_size, next_);
    if (status.ok() && context_.size() > static_cast<size_t>(shard_.manifest.options.max_order)) {
      status = absl::DataLossError("damaged key: an order above the manifest's");
    }
    index_ = 0;
    if (status.ok()) return status;
    return absl::DataLossError(absl::StrCat(shard_.path, ": ", status.message()));
  }
  bool done() const override { return done_; }
  Window window() const override { return {context_, next_[index_].token, next_[index_].count}; }

 private:
  const Shard& shard_;
  const std::string end_key_;
  const rocksdb::Slice end_;
  std::unique_ptr<rocksdb::Iterator> at_;
  bool started_ = false;
  bool done_ = false;
  std::vector<TokenId> context_;
  std::vector<RankedToken> next_;
  size_t index_ = 0;
};

absl::StatusOr<Shard> OpenShard(const std::string& dir, std::shared_ptr<rocksdb::Cache> cache) {
  Shard shard;
  shard.path = dir;
  std::error_code error;
  if (!std::filesystem::is_directory(dir, error)) {
    return absl::NotFoundError(absl::StrCat("shard: no such folder: ", dir));
  }
  auto manifest = ReadManifest(dir);
  if (!manifest.ok()) return manifest.status();
  shard.manifest = *std::move(manifest);
  if (!shard.manifest.options.shard) {
    return absl::FailedPreconditionError(
        absl::StrCat(dir,
                     " is a snapshot without the rare counts, not a shard; only what was "
                     "built with --shard can be merged"));
  }
  absl::Status status = CheckFiles(dir, shard.manifest);
  if (!status.ok()) return status;
  auto db = OpenDatabase(dir, std::move(cache));
  if (!db.ok()) return db.status();
  shard.db = *std::move(db);
  return shard;
}

absl::Status CheckFit(const Shard& shard, const Shard& first) {
  const auto refuse = [&](absl::string_view what, const auto& has, const auto& other) {
    return absl::FailedPreconditionError(absl::StrCat(shard.path, " has ", what, " ", has, ", ",
                                                      first.path, " has ", other,
                                                      "; only shards of one kind can be merged"));
  };
  const Manifest& a = shard.manifest;
  const Manifest& b = first.manifest;
  if (a.tokenizer_fingerprint != b.tokenizer_fingerprint) {
    return refuse("the tokenizer", a.tokenizer_fingerprint, b.tokenizer_fingerprint);
  }
  if (a.vocab_size != b.vocab_size) return refuse("a vocabulary of", a.vocab_size, b.vocab_size);
  if (a.options.max_order != b.options.max_order) {
    return refuse("contexts of up to", a.options.max_order, b.options.max_order);
  }
  return absl::OkStatus();
}

absl::Status ReadCounts(const Shard& shard, WindowCounts& counts) {
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> at(shard.db->NewIterator(options));
  for (at->Seek(EncodeShardCountKey(0)); at->Valid(); at->Next()) {
    TokenId token;
    uint64_t windows;
    VarintReader in(at->value().ToStringView());
    if (!DecodeShardCountKey(at->key().ToStringView(), shard.manifest.vocab_size, token).ok() ||
        !in.Read(windows) || !in.done()) {
      return absl::DataLossError(absl::StrCat(shard.path, ": damaged count of windows"));
    }
    counts[token] += windows;
  }
  return FromRocksDb(at->status(), shard.path);
}

}  // namespace

absl::StatusOr<MergeReport> MergeShards(const MergeRequest& request) {
  if (request.shards.empty()) return absl::InvalidArgumentError("no shard was named");
  std::set<std::string> named;
  const auto cache = rocksdb::NewLRUCache(kCacheBytes);
  std::vector<Shard> shards;
  WindowCounts counts;
  uint64_t documents = 0, tokens = 0;
  std::string job =
      absl::StrCat("merge ", kFormatVersion, " ", request.builder.count.top, " ",
                   request.builder.count.prune_count, " ",
                   request.builder.count.prune_continuations, " ", request.builder.count.shard);
  for (const std::string& dir : request.shards) {
    std::error_code error;
    const std::string canonical = std::filesystem::weakly_canonical(dir, error).string();
    if (!named.insert(canonical).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(dir, " is named twice; its text would count twice"));
    }
    auto shard = OpenShard(dir, cache);
    if (!shard.ok()) return shard.status();
    absl::Status status = shards.empty() ? absl::OkStatus() : CheckFit(*shard, shards.front());
    if (status.ok()) status = ReadCounts(*shard, counts);
    if (!status.ok()) return status;
    documents += shard->manifest.documents;
    tokens += shard->manifest.tokens;
    absl::StrAppend(&job, "\n", canonical);
    shards.push_back(*std::move(shard));
  }
  BuilderOptions options = request.builder;
  options.count.max_order = shards.front().manifest.options.max_order;
  options.job = job;
  auto builder =
      SnapshotBuilder::Create(request.root, shards.front().manifest.tokenizer_fingerprint,
                              shards.front().manifest.vocab_size, options);
  if (!builder.ok()) return builder.status();
  const WindowSource source = [&](TokenId first, TokenId last) {
    std::vector<std::unique_ptr<WindowCursor>> cursors;
    cursors.reserve(shards.size());
    for (const Shard& shard : shards) {
      cursors.push_back(std::make_unique<ShardCursor>(shard, first, last));
    }
    return cursors;
  };
  auto manifest = (*builder)->FinishFrom(
      source, counts, documents, tokens, [&](double share) { request.progress("merging", share); },
      [&] {
        const bool stop =
            request.cancel != nullptr && request.cancel->load(std::memory_order_relaxed);
        return stop ? absl::CancelledError("the merge was interrupted; nothing of it is left")
                    : absl::OkStatus();
      });
  if (!manifest.ok()) return manifest.status();
  return MergeReport{(*builder)->path(), *std::move(manifest)};
}

}  // namespace strata::draft
