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
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/base/atomic_file.h"
#include "services/draft/tiers/model_key.h"
#include "services/draft/tiers/model_tier.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft {

struct ModelStoreOptions {
  // Folder of the saved tiers, made if missing, used by one process at a time. Empty: nothing is
  // loaded or saved.
  std::string dir;
  // Memory for all model tiers together, at least kMinModelStoreBytes.
  size_t max_bytes = size_t{256} << 20;
  // Most model tiers, that is pairs of model and tenant; over it the one taught the longest ago
  // is dropped.
  size_t max_tiers = 1024;
};

inline constexpr size_t kMinModelStoreBytes = size_t{64} << 10;

// All model tiers of a process, one per ModelKey, strictly apart: a lookup reads one tier, under
// that tier's lock. Over max_bytes the largest tier loses its oldest block, so a tenant that
// holds no more than its even share never loses tokens to another tenant's traffic.
//
// On disk: one file a key (model_file.h), named by a hash of the key. Thread-safe.
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
  // The tier to read for `key`; null if it has none. Stays valid, if stale, after it is dropped.
  std::shared_ptr<const Tier> Find(const ModelKey& key) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Writes the tiers that changed since they were last saved and removes the files of those that
  // were dropped. Goes on after an error and returns the first. Without `dir` does nothing.
  absl::Status Save() ABSL_LOCKS_EXCLUDED(mutex_, save_mutex_);

  // Memory held by all tiers, in bytes; at most max_bytes whenever no Learn is under way.
  size_t bytes() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Entry {
    explicit Entry(size_t block_tokens) : tier(block_tokens) {}
    ModelTier tier;
    // Serialises Append with the accounting of its bytes.
    absl::Mutex learn_mutex;
    size_t counted_bytes ABSL_GUARDED_BY(learn_mutex) = 0;
    bool dropped ABSL_GUARDED_BY(learn_mutex) = false;
    // Value of clock_ when last taught.
    std::atomic<uint64_t> last_learned = 0;
    // Version on disk; read and written by Save alone.
    uint64_t saved_version = 0;
  };
  using EntryMap = absl::flat_hash_map<ModelKey, std::shared_ptr<Entry>>;

  explicit ModelStore(const ModelStoreOptions& options);

  absl::Status Load(std::vector<std::string>* warnings);
  void LoadFile(const std::string& path, std::vector<std::string>* warnings);
  std::shared_ptr<Entry> FindOrAdd(const ModelKey& key) ABSL_LOCKS_EXCLUDED(mutex_);
  void Drop(EntryMap::iterator it) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Counts what the tier's size has changed by.
  void Recount(Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.learn_mutex);
  void Evict() ABSL_LOCKS_EXCLUDED(mutex_);
  std::string FilePath(const ModelKey& key) const;

  const ModelStoreOptions options_;
  const size_t block_tokens_;
  FileLock dir_lock_;
  std::atomic<size_t> bytes_ = 0;
  std::atomic<uint64_t> clock_ = 0;

  mutable absl::Mutex mutex_;
  EntryMap entries_ ABSL_GUARDED_BY(mutex_);
  // Files of dropped tiers, to be removed by Save.
  std::vector<std::string> obsolete_ ABSL_GUARDED_BY(mutex_);

  // Held by Save, so that two do not write one file.
  absl::Mutex save_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_MODEL_STORE_H_
