#include "services/draft/corpus/corpus_tier.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/draft/corpus/corpus_matcher.h"
#include "services/draft/corpus/database.h"
#include "services/draft/corpus/manifest.h"
#include "services/draft/corpus/snapshot_format.h"

namespace strata::draft {
namespace {

// Tells the tiers of a process apart in the cache that they share.
uint64_t NextTierNumber() {
  static std::atomic<uint64_t> number{0};
  return number.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

struct CorpusTier::Rep {
  std::string name;
  Manifest manifest;
  std::shared_ptr<CorpusCache> cache;
  std::unique_ptr<rocksdb::DB> db;
  std::unique_ptr<CorpusMatcher> matcher;
};

CorpusTier::CorpusTier(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
CorpusTier::~CorpusTier() = default;

absl::StatusOr<std::shared_ptr<const CorpusTier>> CorpusTier::Open(const std::string& dir,
                                                                   size_t cache_bytes) {
  return Open(dir, std::make_shared<CorpusCache>(cache_bytes));
}

absl::StatusOr<std::shared_ptr<const CorpusTier>> CorpusTier::Open(
    const std::string& dir, std::shared_ptr<CorpusCache> cache) {
  auto snapshot = ResolveSnapshot(dir);
  if (!snapshot.ok()) return snapshot.status();
  auto manifest = ReadManifest(*snapshot);
  if (!manifest.ok()) return manifest.status();
  if (manifest->options.shard) {
    return absl::FailedPreconditionError(
        absl::StrCat("corpus snapshot ", *snapshot,
                     " is a shard; make a snapshot of it with strata-corpus merge"));
  }
  absl::Status files = CheckFiles(*snapshot, *manifest);
  if (!files.ok()) return files;
  auto db = OpenDatabase(*snapshot, cache->blocks(), cache->statistics());
  if (!db.ok()) return db.status();
  auto rep = std::make_unique<Rep>();
  rep->name = FolderName(*snapshot);
  rep->manifest = *std::move(manifest);
  rep->cache = std::move(cache);
  rep->db = *std::move(db);
  rep->matcher =
      std::make_unique<CorpusMatcher>(rep->db.get(), &rep->cache->contexts(), NextTierNumber(),
                                      rep->manifest.vocab_size, rep->manifest.options.max_order);
  return std::shared_ptr<const CorpusTier>(new CorpusTier(std::move(rep)));
}

const std::string& CorpusTier::tokenizer_fingerprint() const {
  return rep_->manifest.tokenizer_fingerprint;
}
const std::string& CorpusTier::snapshot_name() const { return rep_->name; }
uint64_t CorpusTier::token_count() const { return rep_->manifest.tokens; }
int64_t CorpusTier::vocab_size() const { return rep_->manifest.vocab_size; }
int CorpusTier::max_order() const { return rep_->manifest.options.max_order; }
uint64_t CorpusTier::damaged_values() const { return rep_->matcher->damaged_rows(); }
TierKind CorpusTier::kind() const { return TierKind::kCorpus; }

void CorpusTier::Warm(size_t bytes, absl::FunctionRef<bool()> go_on) const {
  const std::unique_ptr<rocksdb::Iterator> at(rep_->db->NewIterator(rocksdb::ReadOptions()));
  size_t read = 0;
  for (at->SeekToFirst(); at->Valid() && read < bytes && go_on(); at->Next()) {
    read += at->key().size() + at->value().size();
  }
}

void CorpusTier::Match(std::span<const MatchQuery> queries, int levels,
                       std::span<Evidence> out) const {
  rep_->matcher->Match(queries, levels, out);
}

}  // namespace strata::draft
