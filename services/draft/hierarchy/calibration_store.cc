#include "services/draft/hierarchy/calibration_store.h"

#include <string>
#include <utility>
#include <vector>

namespace strata::draft {

CalibrationStore::CalibrationStore(ModelStore* store, size_t max_calibrations)
    : store_(store), max_calibrations_(max_calibrations) {}

CalibrationStore::~CalibrationStore() { Save(); }

std::shared_ptr<Calibration> CalibrationStore::Get(const ModelKey& key) {
  std::shared_ptr<Calibration> calibration = Use(key);
  DropExcess();
  return calibration;
}

std::shared_ptr<const Calibration> CalibrationStore::Read(const ModelKey& key) { return Use(key); }

std::shared_ptr<Calibration> CalibrationStore::Use(const ModelKey& key) {
  if (auto held = Held(key); held != nullptr) return held;
  std::shared_ptr<Calibration> calibration = Load(key);
  absl::MutexLock lock(&mutex_);
  // If another call was quicker, that one's may have learned already.
  Entry& entry = entries_[key];
  if (entry.calibration == nullptr) {
    entry.calibration = std::move(calibration);
    entry.saved = entry.calibration->observations();
  }
  entry.used = ++clock_;
  entry.leaving = false;
  return entry.calibration;
}

void CalibrationStore::DropExcess() {
  // Again where the one chosen was wanted meanwhile, and so stays.
  while (EvictOne()) {
  }
}

std::shared_ptr<Calibration> CalibrationStore::Held(const ModelKey& key) {
  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(key);
  if (found == entries_.end()) return nullptr;
  found->second.used = ++clock_;
  found->second.leaving = false;
  return found->second.calibration;
}

bool CalibrationStore::EvictOne() {
  ModelKey key;
  std::shared_ptr<Calibration> oldest;
  {
    absl::MutexLock lock(&mutex_);
    size_t staying = 0;
    auto least = entries_.end();
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      if (it->second.leaving) continue;
      ++staying;
      if (least == entries_.end() || it->second.used < least->second.used) least = it;
    }
    if (staying <= max_calibrations_) return false;
    least->second.leaving = true;
    key = least->first;
    oldest = least->second.calibration;
  }
  // It is found here until it is found there.
  Keep(key, *oldest, /*least_news=*/1);
  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(key);
  if (found != entries_.end() && found->second.leaving) entries_.erase(found);
  return true;
}

std::shared_ptr<const Calibration> CalibrationStore::Peek(const ModelKey& key) const {
  {
    absl::MutexLock lock(&mutex_);
    const auto found = entries_.find(key);
    if (found != entries_.end()) return found->second.calibration;
  }
  if (store_ == nullptr || store_->Find(key) == nullptr) return prior_;
  return Load(key);
}

std::unique_ptr<Calibration> CalibrationStore::Load(const ModelKey& key) const {
  if (store_ != nullptr) {
    const std::string saved = store_->Calibration(key);
    // One that an older build saved in another form is learned anew.
    if (auto decoded = Calibration::Decode(saved); !saved.empty() && decoded.ok()) {
      return *std::move(decoded);
    }
  }
  return std::make_unique<Calibration>();
}

void CalibrationStore::Save(uint64_t least_news) {
  std::vector<std::pair<ModelKey, std::shared_ptr<Calibration>>> all;
  {
    absl::MutexLock lock(&mutex_);
    all.reserve(entries_.size());
    for (const auto& [key, entry] : entries_) all.emplace_back(key, entry.calibration);
  }
  for (const auto& [key, calibration] : all) Keep(key, *calibration, least_news);
  DropExcess();
}

void CalibrationStore::Keep(const ModelKey& key, const Calibration& calibration,
                            uint64_t least_news) {
  if (store_ == nullptr) return;
  absl::MutexLock keeping(&keeping_);
  {
    absl::MutexLock lock(&mutex_);
    const auto found = entries_.find(key);
    // Dropped meanwhile, and so in the store.
    if (found == entries_.end() || found->second.calibration.get() != &calibration) return;
    const uint64_t observations = calibration.observations();
    if (observations < found->second.saved + least_news) return;
    found->second.saved = observations;
  }
  store_->SetCalibration(key, calibration.Encode());
}

}  // namespace strata::draft
