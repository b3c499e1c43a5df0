#ifndef STRATA_SERVICES_DRAFT_CORPUS_CORPUS_HOLDER_H_
#define STRATA_SERVICES_DRAFT_CORPUS_CORPUS_HOLDER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/steady_condition.h"
#include "services/draft/corpus/corpus_cache.h"
#include "services/draft/corpus/corpus_tier.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

struct CorpusHolderOptions {
  // A snapshot, which is then served for good; or a root, whose CURRENT is watched.
  std::string dir;
  // Memory for all that is read of snapshots; see CorpusCache.
  size_t cache_bytes = size_t{256} << 20;
  // How often CURRENT is looked at; zero: never, except by Poll.
  absl::Duration poll_interval = absl::Seconds(5);
  // If not empty, the tokenizer that the first snapshot must have. Later ones must have the first
  // one's anyway.
  std::string tokenizer_fingerprint;
};

// The corpus of a running service: a tier that answers from the live snapshot and moves to a new
// one when CURRENT does. The first one is read into the cache before it serves, as far as two
// seconds and half of the cache go. A new snapshot is opened and warmed on the holder's own thread,
// then takes the place of the old one between two calls; each call is answered by one snapshot as a
// whole. One that cannot be opened, or that is of another tokenizer, is refused with a warning in
// the log, and not tried again until CURRENT is written again. Thread-safe.
class CorpusHolder final : public Tier {
 public:
  // Opens the first snapshot; errors as CorpusTier::Open, and FAILED_PRECONDITION for the wrong
  // tokenizer.
  static absl::StatusOr<std::shared_ptr<const CorpusHolder>> Open(CorpusHolderOptions options);
  ~CorpusHolder() override;

  // The live snapshot, which stays open as long as it is held.
  std::shared_ptr<const CorpusTier> tier() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Of the live snapshot.
  std::string snapshot_name() const { return tier()->snapshot_name(); }
  uint64_t token_count() const { return tier()->token_count(); }
  // The same for all snapshots.
  const std::string& tokenizer_fingerprint() const { return fingerprint_; }
  // Snapshots moved to so far.
  uint64_t swaps() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Snapshots that CURRENT named and that were refused so far.
  uint64_t refusals() const { return refusals_.load(std::memory_order_relaxed); }
  CorpusCache::Stats cache_stats() const { return cache_->stats(); }

  // Looks at CURRENT now, and moves if it has changed: what the holder's thread does. Returns why
  // the snapshot it names was refused, if this call refused it.
  absl::Status Poll() const ABSL_LOCKS_EXCLUDED(poll_mutex_, mutex_);

  TierKind kind() const override { return TierKind::kCorpus; }
  void Match(std::span<const MatchQuery> queries, int levels,
             std::span<Evidence> out) const override;

 private:
  // Tells one writing of CURRENT from another.
  struct Version {
    std::string name;
    int64_t changed = 0;
    uint64_t inode = 0;
    bool operator==(const Version&) const = default;
  };
  static constexpr size_t kRecent = 256;

  CorpusHolder(CorpusHolderOptions options, std::shared_ptr<CorpusCache> cache,
               std::shared_ptr<const CorpusTier> first, Version version);
  static Version ReadVersion(const std::string& dir);
  void Watch() const;
  // Asks `tier` what was asked of late, so that the first requests after the swap find it warm;
  // slowly, so that those before it keep their cores.
  void Warm(const CorpusTier& tier) const;
  void Remember(const MatchQuery& query) const;

  const CorpusHolderOptions options_;
  const std::shared_ptr<CorpusCache> cache_;
  const std::string fingerprint_;

  mutable absl::Mutex poll_mutex_;
  mutable Version version_ ABSL_GUARDED_BY(poll_mutex_);
  // Snapshots that were swapped out. The holder lets go of them last, so that no request pays for
  // closing one.
  mutable std::vector<std::shared_ptr<const CorpusTier>> retired_ ABSL_GUARDED_BY(poll_mutex_);

  mutable absl::Mutex mutex_ ABSL_ACQUIRED_AFTER(poll_mutex_);
  mutable std::shared_ptr<const CorpusTier> tier_ ABSL_GUARDED_BY(mutex_);
  mutable uint64_t swaps_ ABSL_GUARDED_BY(mutex_) = 0;
  mutable std::atomic<uint64_t> refusals_ = 0;

  // A sample of the contexts asked about.
  mutable absl::Mutex recent_mutex_;
  mutable std::array<ContextTail, kRecent> recent_ ABSL_GUARDED_BY(recent_mutex_);
  mutable size_t remembered_ ABSL_GUARDED_BY(recent_mutex_) = 0;

  mutable absl::Mutex stop_mutex_;
  mutable SteadyCondition stopped_;
  bool stop_ ABSL_GUARDED_BY(stop_mutex_) = false;
  std::thread watcher_;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_CORPUS_HOLDER_H_
