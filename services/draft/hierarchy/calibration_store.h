#ifndef STRATA_SERVICES_DRAFT_HIERARCHY_CALIBRATION_STORE_H_
#define STRATA_SERVICES_DRAFT_HIERARCHY_CALIBRATION_STORE_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "services/draft/hierarchy/calibration.h"
#include "services/draft/tiers/model_key.h"
#include "services/draft/tiers/model_store.h"

namespace strata::draft {

// The calibrations of a process: one per model and tenant, strictly apart like the model tiers,
// and saved with them. Thread-safe.
class CalibrationStore {
 public:
  // `store`, which may be null, keeps them across restarts and must outlive this. Holds at most
  // `max_calibrations` (>= 1) in memory, of Calibration::bytes() each, for a moment one more for
  // each Get under way, and those that were read since the last Get, DropExcess or Save; beyond,
  // the one not used for the longest is dropped, after its state went to `store`.
  CalibrationStore(ModelStore* store, size_t max_calibrations);
  ~CalibrationStore();

  // That of `key`, from `store` or new. Stays valid if it is dropped meanwhile; what it is taught
  // after that is lost. One that is in memory is there at once, whatever becomes of others.
  // To learn with: to make room may take as long as to teach the model store.
  std::shared_ptr<Calibration> Get(const ModelKey& key) ABSL_LOCKS_EXCLUDED(keeping_, mutex_);
  // The same to draft with: makes no room, and so waits for nobody.
  std::shared_ptr<const Calibration> Read(const ModelKey& key) ABSL_LOCKS_EXCLUDED(mutex_);
  // Makes the room that Read did not.
  void DropExcess() ABSL_LOCKS_EXCLUDED(keeping_, mutex_);
  // As Read, but keeps nothing, and takes nothing else's place.
  std::shared_ptr<const Calibration> Peek(const ModelKey& key) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Hands to `store` what was learned since, of those that have at least `least_news` new
  // observations, and makes room.
  void Save(uint64_t least_news = 1) ABSL_LOCKS_EXCLUDED(keeping_, mutex_);

 private:
  struct Entry {
    std::shared_ptr<Calibration> calibration;
    // Its observations when it last went to the store.
    uint64_t saved = 0;
    // Value of clock_ at the last Get.
    uint64_t used = 0;
    // On its way to the store, to be dropped unless somebody gets it before.
    bool leaving = false;
  };

  // That of `key`, from memory, `store` or new.
  std::shared_ptr<Calibration> Use(const ModelKey& key) ABSL_LOCKS_EXCLUDED(mutex_);
  // That of `key` if it is in memory, else null.
  std::shared_ptr<Calibration> Held(const ModelKey& key) ABSL_LOCKS_EXCLUDED(mutex_);
  // That of `key` in the model store, or a new one.
  std::unique_ptr<Calibration> Load(const ModelKey& key) const;
  // Drops the one not used for the longest, if there are too many. False if there are not.
  bool EvictOne() ABSL_LOCKS_EXCLUDED(keeping_, mutex_);
  // Hands one that is in memory to `store`, if it has so many new observations.
  void Keep(const ModelKey& key, const Calibration& calibration, uint64_t least_news)
      ABSL_LOCKS_EXCLUDED(keeping_, mutex_);

  ModelStore* const store_;
  const size_t max_calibrations_;
  // What a model and tenant starts from.
  const std::shared_ptr<const Calibration> prior_ = std::make_shared<Calibration>();
  // Held for one calibration at a time, so that none in the store is replaced by an earlier state.
  absl::Mutex keeping_ ABSL_ACQUIRED_BEFORE(mutex_);
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<ModelKey, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  uint64_t clock_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_HIERARCHY_CALIBRATION_STORE_H_
