#include "services/draft/hierarchy/calibration_store.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace strata::draft {

CalibrationStore::CalibrationStore(ModelStore* store, size_t max_calibrations)
    : store_(store), max_calibrations_(max_calibrations) {}

CalibrationStore::~CalibrationStore() {
  absl::MutexLock lock(&mutex_);
  for (auto& [key, entry] : entries_) Keep(key, entry);
}

std::shared_ptr<Calibration> CalibrationStore::Get(const ModelKey& key) {
  absl::MutexLock lock(&mutex_);
  const auto found = entries_.find(key);
  if (found != entries_.end()) {
    found->second.used = ++clock_;
    return found->second.calibration;
  }
  Entry entry;
  entry.calibration = Load(key);
  entry.saved = entry.calibration->observations();
  entry.used = ++clock_;
  if (entries_.size() >= max_calibrations_) {
    const auto oldest = std::min_element(
        entries_.begin(), entries_.end(),
        [](const auto& a, const auto& b) { return a.second.used < b.second.used; });
    Keep(oldest->first, oldest->second);
    entries_.erase(oldest);
  }
  return entries_.emplace(key, std::move(entry)).first->second.calibration;
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
  if (store_ == nullptr) return;
  absl::MutexLock saving(&saving_);
  std::vector<std::pair<ModelKey, std::shared_ptr<Calibration>>> news;
  {
    absl::MutexLock lock(&mutex_);
    for (auto& [key, entry] : entries_) {
      const uint64_t observations = entry.calibration->observations();
      if (observations < entry.saved + least_news) continue;
      entry.saved = observations;
      news.emplace_back(key, entry.calibration);
    }
  }
  // What was dropped meanwhile has gone to the store as it was later. (If it is dropped just behind
  // the look at it, the observations of this moment are lost.)
  for (const auto& [key, calibration] : news) {
    const std::string encoded = calibration->Encode();
    bool held = false;
    {
      absl::MutexLock lock(&mutex_);
      const auto found = entries_.find(key);
      held = found != entries_.end() && found->second.calibration == calibration;
    }
    if (held) store_->SetCalibration(key, encoded);
  }
}

void CalibrationStore::Keep(const ModelKey& key, Entry& entry) {
  const uint64_t observations = entry.calibration->observations();
  if (store_ == nullptr || observations <= entry.saved) return;
  store_->SetCalibration(key, entry.calibration->Encode());
  entry.saved = observations;
}

}  // namespace strata::draft
