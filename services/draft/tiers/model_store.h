#ifndef STRATA_SERVICES_DRAFT_TIERS_MODEL_STORE_H_
#define STRATA_SERVICES_DRAFT_TIERS_MODEL_STORE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/atomic_file.h"
#include "common/base/row_ranking.h"
#include "services/draft/tiers/model_key.h"
#include "services/draft/tiers/model_tier.h"
#include "services/draft/tiers/recycled_tier.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

struct ModelStoreOptions {
  // Folder of the saved tiers, made if missing, used by one process at a time. Empty: nothing is
  // loaded or saved.
  std::string dir;
  // Memory for all model tiers together, at least kMinModelStoreBytes.
  size_t max_bytes = size_t{256} << 20;
  // Most text of one tenant and model, in bytes of memory; over it the oldest is forgotten. 0: what
  // the others leave. What is not text, recycled candidates and the calibration, is of fixed size.
  size_t max_tenant_bytes = 0;
  // Recycled candidates that were taught in this time are kept, though others have no room: tenants
  // at work, if they are too many, would else take turns and none keep any for long.
  absl::Duration min_recycled_idle = absl::Seconds(10);
  // Most model tiers, that is pairs of model and tenant; over it the one taught the longest ago
  // is dropped.
  size_t max_tiers = 1024;
};

inline constexpr size_t kMinModelStoreBytes = size_t{64} << 10;
inline constexpr size_t kMaxCalibrationBytes = size_t{1} << 20;

// What is kept for each model and tenant: its model tier, its recycled candidates, and an opaque
// calibration; strictly apart, one set per ModelKey. Over max_bytes the largest loses its oldest
// segments, so a tenant that holds no more than its even share never loses tokens to another
// tenant's traffic. All recycled candidates together have an eighth of max_bytes, and so have all
// calibrations: beyond, those of the key that was taught the longest ago go.
//
// On disk: one file a key (model_file.h), named by a hash of the key; recycled candidates are not
// saved. Thread-safe.
class ModelStore {
 public:
  // Loads what `dir` holds. A file that is damaged, or of another format version, is renamed to
  // *.damaged; a sentence about each is appended to `warnings`. INVALID_ARGUMENT for options out of
  // range, FAILED_PRECONDITION if another process has the folder, or an error of the file system.
  static absl::StatusOr<std::unique_ptr<ModelStore>> Open(const ModelStoreOptions& options,
                                                          std::vector<std::string>* warnings);
  // Does not save.
  ~ModelStore() = default;

  // Teaches one segment; see ModelTier::Append.
  void Learn(const ModelKey& key, std::span<const TokenId> tokens, uint32_t first_key,
             uint32_t end_key) ABSL_LOCKS_EXCLUDED(mutex_);
  // Keeps the rankings as recycled candidates; see RecycledTier. Without room for a table of
  // their own (its share, and no text is forgotten for it) the one that was taught the longest ago
  // gives way, if that was before min_recycled_idle; else they are left out.
  void LearnRankings(const ModelKey& key, std::span<const RowRanking> rankings)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The tiers to read for `key`; null where it has none. Stay valid, if stale, after they are
  // dropped.
  std::shared_ptr<const Tier> Find(const ModelKey& key) const ABSL_LOCKS_EXCLUDED(mutex_);
  std::shared_ptr<const Tier> FindRecycled(const ModelKey& key) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Bytes that are kept and saved with the key's tier, at most kMaxCalibrationBytes and an eighth
  // of max_bytes (more are not taken), which all of them share: those of the key that was taught
  // the longest ago give way. A key without a tier keeps none: it was never taught anything.
  void SetCalibration(const ModelKey& key, std::string calibration) ABSL_LOCKS_EXCLUDED(mutex_);
  // Empty if there is none. Waits for nobody who teaches.
  std::string Calibration(const ModelKey& key) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Writes the tiers that changed since they were last saved and removes the files of those that
  // were dropped. Goes on after an error and returns the first. Without `dir` does nothing.
  absl::Status Save() ABSL_LOCKS_EXCLUDED(mutex_, save_mutex_);

  // Memory held by all tiers, in bytes, measured. Eviction begins at 15/16 of max_bytes, so that
  // tables can grow within it.
  size_t bytes() const ABSL_LOCKS_EXCLUDED(mutex_);
  size_t max_bytes() const { return options_.max_bytes; }
  // Pairs of model and tenant that something is kept for.
  size_t tiers() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Calls of Save that ended with an error.
  uint64_t save_failures() const { return save_failures_.load(std::memory_order_relaxed); }

 private:
  struct Entry {
    ModelTier tier;
    // Serialises changes with the accounting of their bytes. Held while text is taught or
    // forgotten, some ten milliseconds, so nothing that is read for a draft waits for it.
    mutable absl::Mutex learn_mutex;
    // Held for moments, and the last lock that is taken.
    mutable absl::Mutex extras_mutex ABSL_ACQUIRED_AFTER(learn_mutex);
    // Both null if there is none. Either may be taken away while it is read.
    std::shared_ptr<RecycledTier> recycled ABSL_GUARDED_BY(extras_mutex);
    std::shared_ptr<const std::string> calibration ABSL_GUARDED_BY(extras_mutex);
    // Of SteadyNow; when `recycled` was last taught.
    absl::Time recycled_taught ABSL_GUARDED_BY(extras_mutex);
    // Raised by every change of `calibration`.
    uint64_t calibration_version ABSL_GUARDED_BY(extras_mutex) = 0;
    // The tier's share of bytes_.
    size_t counted_bytes ABSL_GUARDED_BY(learn_mutex) = 0;
    bool dropped ABSL_GUARDED_BY(learn_mutex) = false;
    // Value of clock_ when last taught.
    std::atomic<uint64_t> last_learned = 0;
    // Sum of the versions on disk; read and written by Save alone.
    uint64_t saved_version = 0;
  };
  using EntryMap = absl::flat_hash_map<ModelKey, std::shared_ptr<Entry>>;

  explicit ModelStore(const ModelStoreOptions& options);

  absl::Status Load(std::vector<std::string>* warnings);
  void LoadFile(const std::string& path, std::vector<std::string>* warnings);
  std::shared_ptr<Entry> FindOrAdd(const ModelKey& key) ABSL_LOCKS_EXCLUDED(mutex_);
  // Null if there is none.
  std::shared_ptr<Entry> FindEntry(const ModelKey& key) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Runs `change` on the key's entry, made if need be, and accounts for it.
  void Change(const ModelKey& key, absl::FunctionRef<void(Entry&)> change)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes an entry out of the map. Uncount, without the lock, is to follow.
  void Erase(EntryMap::iterator it) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The end of an entry that is in the map no more. May wait for who teaches it.
  void Uncount(Entry& entry) ABSL_LOCKS_EXCLUDED(mutex_);
  // False if there is no entry.
  bool FindLargest(ModelKey& key, std::shared_ptr<Entry>& entry) const ABSL_LOCKS_EXCLUDED(mutex_);
  // The entry's recycled candidates, to be taught now. Null if there is no room.
  std::shared_ptr<RecycledTier> RecycledOf(Entry& entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.learn_mutex);
  bool HasRoomForRecycled() const;
  // Takes away those that were taught the longest ago, and long enough, if there is no room for
  // more.
  void MakeRoomForRecycled() ABSL_LOCKS_EXCLUDED(mutex_);
  void DropRecycled(Entry& entry) ABSL_LOCKS_EXCLUDED(entry.extras_mutex);
  // Takes away calibrations until `key` may have one of `bytes`.
  void MakeRoomForCalibration(const ModelKey& key, size_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  // Replaces the entry's, if all fit; null: takes it away.
  void ReplaceCalibration(Entry& entry, std::shared_ptr<const std::string> calibration)
      ABSL_LOCKS_EXCLUDED(entry.extras_mutex);
  // Counts what the tier's size has changed by.
  void Recount(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.learn_mutex);
  void Evict() ABSL_LOCKS_EXCLUDED(mutex_, evict_mutex_);
  std::string FilePath(const ModelKey& key) const;

  const ModelStoreOptions options_;
  // Eviction begins here, below max_bytes.
  const size_t evict_above_;
  // Most bytes of all recycled candidates, and of all calibrations.
  const size_t max_extra_bytes_;
  FileLock dir_lock_;
  std::atomic<size_t> bytes_ = 0;
  // Parts of bytes_.
  std::atomic<size_t> recycled_bytes_ = 0;
  std::atomic<size_t> calibration_bytes_ = 0;
  std::atomic<uint64_t> clock_ = 0;
  std::atomic<uint64_t> save_failures_ = 0;

  // Lock order: evict_mutex_, then mutex_ or an entry's learn_mutex, never both, then an entry's
  // extras_mutex: mutex_ is held for moments only, because Find takes it.
  mutable absl::Mutex mutex_;
  EntryMap entries_ ABSL_GUARDED_BY(mutex_);
  // Files of dropped tiers, to be removed by Save.
  std::vector<std::string> obsolete_ ABSL_GUARDED_BY(mutex_);

  absl::Mutex evict_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  // Held by Save, so that two do not write one file.
  absl::Mutex save_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_MODEL_STORE_H_
