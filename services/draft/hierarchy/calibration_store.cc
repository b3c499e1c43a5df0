#include "services/draft/hierarchy/calibration_store.h"

#include <algorithm>
#include <string>
#include <utility>

namespace strata::draft {
namespace {

// Observations that make a copy worth its 150 KB.
constexpr uint64_t kWorthSaving = 256;

}  // namespace

CalibrationStore::CalibrationStore(ModelStore* store, size_t max_calibrations)
    : store_(store), max_calibrations_(max_calibrations) {}

CalibrationStore::~CalibrationStore() {
  absl::MutexLock lock(&mutex_);
  for (auto& [key, entry] : entries_) Save(key, entry, 1);
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
    Save(oldest->first, oldest->second, 1);
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

void CalibrationStore::Save() {
  absl::MutexLock lock(&mutex_);
  for (auto& [key, entry] : entries_) Save(key, entry, kWorthSaving);
}

void CalibrationStore::Save(const ModelKey& key, Entry& entry, uint64_t least_news) {
  const uint64_t observations = entry.calibration->observations();
  if (store_ == nullptr || observations < entry.saved + least_news) return;
  store_->SetCalibration(key, entry.calibration->Encode());
  entry.saved = observations;
}

}  // namespace strata::draft
