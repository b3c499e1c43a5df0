#include "services/draft/corpus/corpus_tier.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <filesystem>
#include <limits>
#include <utility>

#include "services/draft/corpus/database.h"
#include "services/draft/corpus/manifest.h"
#include "services/draft/corpus/snapshot_format.h"

namespace strata::draft {
namespace {

uint32_t Saturate(uint64_t count) {
  return static_cast<uint32_t>(std::min<uint64_t>(count, std::numeric_limits<uint32_t>::max()));
}

bool IsPrefix(std::span<const TokenId> tokens, std::span<const TokenId> of) {
  return tokens.size() <= of.size() && std::equal(tokens.begin(), tokens.end(), of.begin());
}

}  // namespace

struct CorpusTier::Rep {
  std::string name;
  Manifest manifest;
  std::unique_ptr<rocksdb::DB> db;
  mutable std::atomic<uint64_t> damaged{0};
};

CorpusTier::CorpusTier(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
CorpusTier::~CorpusTier() = default;

absl::StatusOr<std::shared_ptr<const CorpusTier>> CorpusTier::Open(const std::string& dir,
                                                                   size_t block_cache_bytes) {
  auto snapshot = ResolveSnapshot(dir);
  if (!snapshot.ok()) return snapshot.status();
  auto manifest = ReadManifest(*snapshot);
  if (!manifest.ok()) return manifest.status();
  absl::Status files = CheckFiles(*snapshot, *manifest);
  if (!files.ok()) return files;
  auto db = OpenDatabase(*snapshot, block_cache_bytes);
  if (!db.ok()) return db.status();
  auto rep = std::make_unique<Rep>();
  // A trailing '/' would leave no name.
  const auto path = (std::filesystem::path(*snapshot) / "").lexically_normal();
  rep->name = path.parent_path().filename().string();
  rep->manifest = *std::move(manifest);
  rep->db = *std::move(db);
  return std::shared_ptr<const CorpusTier>(new CorpusTier(std::move(rep)));
}

const std::string& CorpusTier::tokenizer_fingerprint() const {
  return rep_->manifest.tokenizer_fingerprint;
}
const std::string& CorpusTier::snapshot_name() const { return rep_->name; }
uint64_t CorpusTier::token_count() const { return rep_->manifest.tokens; }
int64_t CorpusTier::vocab_size() const { return rep_->manifest.vocab_size; }
int CorpusTier::max_order() const { return rep_->manifest.options.orders.back(); }
uint64_t CorpusTier::damaged_values() const {
  return rep_->damaged.load(std::memory_order_relaxed);
}
TierKind CorpusTier::kind() const { return TierKind::kCorpus; }

void CorpusTier::Lookup(std::span<const TokenId> context, int max_chains, int chain_length,
                        std::vector<Chain>& out) const {
  if (max_chains <= 0 || chain_length <= 0) return;
  // No key holds a token out of range, nor any context that reaches past one.
  size_t usable = 0;
  while (usable < std::min<size_t>(context.size(), kMaxOrder)) {
    const TokenId token = context[context.size() - 1 - usable];
    if (token < 0 || token >= vocab_size()) break;
    ++usable;
  }
  std::array<std::string, kMaxOrder> keys;
  std::array<rocksdb::Slice, kMaxOrder> slices;
  std::array<int, kMaxOrder> orders;
  size_t count = 0;
  // Ascending orders are ascending keys, which MultiGet needs not sort then.
  for (int order : rep_->manifest.options.orders) {
    if (static_cast<size_t>(order) > usable) break;
    EncodeKey(context.last(order), keys[count]);
    slices[count] = keys[count];
    orders[count++] = order;
  }
  if (count == 0) return;
  std::array<rocksdb::PinnableSlice, kMaxOrder> values;
  std::array<rocksdb::Status, kMaxOrder> statuses;
  rep_->db->MultiGet(rocksdb::ReadOptions(), rep_->db->DefaultColumnFamily(), count, slices.data(),
                     values.data(), statuses.data(), /*sorted_input=*/true);

  const size_t before = out.size();
  const size_t limit = before + static_cast<size_t>(max_chains);
  ContextValue value;
  for (size_t k = count; k-- > 0 && out.size() < limit;) {
    if (statuses[k].IsNotFound()) continue;
    if (!statuses[k].ok() || !DecodeValue(values[k].ToStringView(), vocab_size(), value).ok()) {
      rep_->damaged.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    for (const Branch& branch : value.branches) {
      if (out.size() >= limit) break;
      const std::span<const TokenId> tokens(
          branch.tokens.data(), static_cast<size_t>(std::min(branch.length, chain_length)));
      const bool known = std::any_of(out.begin() + before, out.end(), [&](const Chain& chain) {
        return IsPrefix(tokens, chain.tokens);
      });
      if (known) continue;
      Chain& chain = out.emplace_back();
      chain.tokens.assign(tokens.begin(), tokens.end());
      chain.count = Saturate(branch.counts[0]);
      chain.total = Saturate(value.total);
      chain.matched = orders[k];
    }
  }
}

}  // namespace strata::draft
