#include "services/draft/tiers/model_store.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/base/steady_clock.h"
#include "services/draft/tiers/model_file.h"
#define XXH_INLINE_ALL
#include "xxhash.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;

constexpr char kFilePrefix[] = "model-";
constexpr char kDamagedSuffix[] = ".damaged";
constexpr char kLockName[] = "LOCK";

// This part of max_bytes is kept free for tables that grow, of which the old and the new exist for
// a while: one in 64 of a tier (ModelTier's shards) at a time, and seldom more than a few.
constexpr size_t kReservedShare = 16;
// Recycled candidates may take this part of max_bytes, and calibrations as much.
constexpr size_t kExtrasShare = 8;
// Keys of a saved segment that are taught at a time.
constexpr uint32_t kLoadedKeys = 1024;

// Hands `segment` to `learn` (as ModelStore::Learn, without the key) in parts of few keys. Whoever
// teaches keeps segments short, but a file may hold any: a long one would take far more than
// max_bytes, some 200 bytes a token, before anything could be forgotten.
void LearnInParts(
    const ModelSegment& segment,
    absl::FunctionRef<void(std::span<const TokenId>, uint32_t first_key, uint32_t end_key)> learn) {
  const std::span<const TokenId> tokens(segment.tokens);
  if (segment.end_key - segment.first_key <= kLoadedKeys) {
    return learn(tokens, segment.first_key, segment.end_key);
  }
  for (uint32_t first = segment.first_key; first < segment.end_key;) {
    const uint32_t end = first + std::min(segment.end_key - first, kLoadedKeys);
    // With what n-grams of every order begin with, and the last one's continuation.
    const uint32_t begin = first - std::min<uint32_t>(first, kMaxContextOrder - 1);
    const size_t behind = std::min(tokens.size(), size_t{end} + 1);
    learn(tokens.subspan(begin, behind - begin), first - begin, end - begin);
    first = end;
  }
}

}  // namespace

ModelStore::ModelStore(const ModelStoreOptions& options)
    : options_(options),
      evict_above_(options.max_bytes - options.max_bytes / kReservedShare),
      max_extra_bytes_(options.max_bytes / kExtrasShare) {}

absl::StatusOr<std::unique_ptr<ModelStore>> ModelStore::Open(const ModelStoreOptions& options,
                                                             std::vector<std::string>* warnings) {
  if (options.max_bytes < kMinModelStoreBytes) {
    return absl::InvalidArgumentError(absl::StrCat("model tier memory is ", options.max_bytes,
                                                   " bytes, must be at least ",
                                                   kMinModelStoreBytes));
  }
  if (options.max_tenant_bytes > 0 && options.max_tenant_bytes < kMinModelStoreBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("model tier memory of a tenant is ", options.max_tenant_bytes,
                     " bytes, must be 0 or at least ", kMinModelStoreBytes));
  }
  if (options.max_tiers < 1) return absl::InvalidArgumentError("max_tiers must be at least 1");
  std::unique_ptr<ModelStore> store(new ModelStore(options));
  if (!options.dir.empty()) {
    if (absl::Status status = store->Load(warnings); !status.ok()) return status;
  }
  return store;
}

absl::Status ModelStore::Load(std::vector<std::string>* warnings) {
  std::error_code error;
  fs::create_directories(options_.dir, error);
  if (error) {
    return absl::ErrnoToStatus(
        error.value(), absl::StrCat("cannot make the model tier folder '", options_.dir, "'"));
  }
  auto lock = FileLock::Acquire(absl::StrCat(options_.dir, "/", kLockName));
  if (!lock.ok()) return lock.status();
  dir_lock_ = *std::move(lock);

  std::vector<std::pair<fs::file_time_type, std::string>> files;
  fs::directory_iterator it(options_.dir, error);
  for (; !error && it != fs::directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!absl::StartsWith(name, kFilePrefix)) continue;
    std::error_code ignored;
    if (absl::EndsWith(name, kTemporarySuffix)) {
      // Left by a process that died while it wrote.
      fs::remove(it->path(), ignored);
    } else if (absl::EndsWith(name, kModelFileSuffix)) {
      files.emplace_back(fs::last_write_time(it->path(), ignored), it->path().string());
    }
  }
  if (error) {
    return absl::ErrnoToStatus(
        error.value(), absl::StrCat("cannot list the model tier folder '", options_.dir, "'"));
  }
  // The oldest first, so that what does not fit any more is the oldest.
  std::sort(files.begin(), files.end());
  for (const auto& [time, path] : files) LoadFile(path, warnings);
  return absl::OkStatus();
}

void ModelStore::LoadFile(const std::string& path, std::vector<std::string>* warnings) {
  // A file holds tokens alone, so one that was written under the same limit is shorter than the
  // memory; under a lower limit it may be longer, and its oldest segments are dropped again.
  constexpr size_t kMaxFileBytes = size_t{4} << 30;
  auto data = ReadWholeFile(path, kMaxFileBytes);
  if (!data.ok()) {
    warnings->push_back(absl::StrCat("model tier file skipped: ", data.status().message()));
    return;
  }
  auto content = DecodeModelFile(*data);
  if (content.ok() && fs::path(FilePath(content->key)).filename() != fs::path(path).filename()) {
    content = absl::DataLossError("its name is not that of its model and tenant");
  }
  if (!content.ok()) {
    std::error_code error;
    fs::rename(path, path + kDamagedSuffix, error);
    warnings->push_back(absl::StrCat("model tier file '", path,
                                     "' is damaged and starts empty: ", content.status().message(),
                                     error ? "; it could not be renamed: " : "; kept as *",
                                     error ? error.message() : kDamagedSuffix));
    return;
  }
  for (const ModelSegment& segment : content->segments) {
    LearnInParts(segment,
                 [&](std::span<const TokenId> tokens, uint32_t first_key, uint32_t end_key) {
                   Learn(content->key, tokens, first_key, end_key);
                 });
  }
  if (!content->calibration.empty()) {
    SetCalibration(content->key, std::move(content->calibration));
  }
  const std::shared_ptr<Entry> entry = FindEntry(content->key);
  if (entry == nullptr) return;
  absl::MutexLock lock(&entry->extras_mutex);
  entry->saved_version = entry->tier.version() + entry->calibration_version;
}

std::shared_ptr<ModelStore::Entry> ModelStore::FindOrAdd(const ModelKey& key) {
  if (std::shared_ptr<Entry> entry = FindEntry(key); entry != nullptr) return entry;
  auto entry = std::make_shared<Entry>();
  entry->last_learned = ++clock_;
  std::shared_ptr<Entry> oldest;
  {
    absl::MutexLock lock(&mutex_);
    const auto [it, added] = entries_.try_emplace(key, entry);
    if (!added) return it->second;
    if (entries_.size() > options_.max_tiers) {
      const auto out =
          std::min_element(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) {
            return a.second->last_learned < b.second->last_learned;
          });
      oldest = out->second;
      Erase(out);
    }
  }
  if (oldest != nullptr) Uncount(*oldest);
  return entry;
}

void ModelStore::Erase(EntryMap::iterator it) {
  if (!options_.dir.empty()) obsolete_.push_back(FilePath(it->first));
  entries_.erase(it);
}

void ModelStore::Uncount(Entry& entry) {
  {
    absl::MutexLock lock(&entry.learn_mutex);
    entry.dropped = true;
    bytes_ -= entry.counted_bytes;
    entry.counted_bytes = 0;
  }
  // Nothing is added any more.
  DropRecycled(entry);
  ReplaceCalibration(entry, nullptr);
}

void ModelStore::Recount(Entry& entry) {
  const size_t bytes = entry.tier.bytes();
  // Unsigned wrap-around makes a decrease come out right.
  bytes_ += bytes - entry.counted_bytes;
  entry.counted_bytes = bytes;
}

void ModelStore::Change(const ModelKey& key, absl::FunctionRef<void(Entry&)> change) {
  for (;;) {
    const std::shared_ptr<Entry> entry = FindOrAdd(key);
    absl::MutexLock lock(&entry->learn_mutex);
    // Dropped between the two locks: what is taught now would be lost, and its bytes not counted.
    if (entry->dropped) continue;
    entry->last_learned = ++clock_;
    change(*entry);
    if (options_.max_tenant_bytes > 0) {
      while (entry->tier.bytes() > options_.max_tenant_bytes && entry->tier.ForgetOldest()) {
      }
    }
    Recount(*entry);
    break;
  }
  if (bytes_ > evict_above_) Evict();
}

void ModelStore::Learn(const ModelKey& key, std::span<const TokenId> tokens, uint32_t first_key,
                       uint32_t end_key) {
  Change(key, [&](Entry& entry) { entry.tier.Append(tokens, first_key, end_key); });
}

void ModelStore::LearnRankings(const ModelKey& key, std::span<const RowRanking> rankings) {
  if (rankings.empty()) return;
  if (FindRecycled(key) == nullptr) MakeRoomForRecycled();
  Change(key, [&](Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(entry.learn_mutex) {
    const auto recycled = RecycledOf(entry);
    if (recycled != nullptr) recycled->Learn(rankings);
  });
}

std::shared_ptr<RecycledTier> ModelStore::RecycledOf(Entry& entry) {
  {
    absl::MutexLock lock(&entry.extras_mutex);
    // Before it is taught, so that it is not taken away in between.
    entry.recycled_taught = SteadyNow();
    if (entry.recycled != nullptr) return entry.recycled;
  }
  constexpr size_t kBytes = RecycledTier::kBytes;
  if (!HasRoomForRecycled()) return nullptr;
  // Another thread may have taken it since.
  if (recycled_bytes_.fetch_add(kBytes) + kBytes > max_extra_bytes_) {
    recycled_bytes_ -= kBytes;
    return nullptr;
  }
  bytes_ += kBytes;
  auto recycled = std::make_shared<RecycledTier>();
  absl::MutexLock lock(&entry.extras_mutex);
  entry.recycled = recycled;
  return recycled;
}

bool ModelStore::HasRoomForRecycled() const {
  // Nobody's text is forgotten for it, now or later: all tables together have a share of their own.
  constexpr size_t kBytes = RecycledTier::kBytes;
  return bytes_ + kBytes <= evict_above_ && recycled_bytes_ + kBytes <= max_extra_bytes_;
}

void ModelStore::MakeRoomForRecycled() {
  if (HasRoomForRecycled()) return;
  absl::Time oldest = SteadyNow() - options_.min_recycled_idle;
  std::shared_ptr<Entry> idlest;
  {
    absl::ReaderMutexLock lock(&mutex_);
    for (const auto& [key, held] : entries_) {
      absl::MutexLock extras_lock(&held->extras_mutex);
      if (held->recycled == nullptr || held->recycled_taught > oldest) continue;
      oldest = held->recycled_taught;
      idlest = held;
    }
  }
  if (idlest != nullptr) DropRecycled(*idlest);
}

void ModelStore::DropRecycled(Entry& entry) {
  // Freed when nobody reads it any more, and not under the lock.
  std::shared_ptr<RecycledTier> dropped;
  absl::MutexLock lock(&entry.extras_mutex);
  if (entry.recycled == nullptr) return;
  dropped.swap(entry.recycled);
  recycled_bytes_ -= RecycledTier::kBytes;
  bytes_ -= RecycledTier::kBytes;
}

void ModelStore::SetCalibration(const ModelKey& key, std::string calibration) {
  if (calibration.size() > std::min(kMaxCalibrationBytes, max_extra_bytes_) ||
      FindEntry(key) == nullptr) {
    return;
  }
  calibration.shrink_to_fit();
  MakeRoomForCalibration(key, calibration.size());
  std::shared_ptr<const std::string> kept;
  if (!calibration.empty()) kept = std::make_shared<const std::string>(std::move(calibration));
  Change(key, [&](Entry& entry) { ReplaceCalibration(entry, kept); });
}

void ModelStore::MakeRoomForCalibration(const ModelKey& key, size_t bytes) {
  for (;;) {
    size_t held_bytes = 0;
    std::shared_ptr<Entry> oldest;
    {
      absl::ReaderMutexLock lock(&mutex_);
      for (const auto& [other, held] : entries_) {
        absl::MutexLock extras_lock(&held->extras_mutex);
        if (held->calibration == nullptr || other == key) continue;
        held_bytes += held->calibration->size();
        if (oldest == nullptr || held->last_learned < oldest->last_learned) oldest = held;
      }
    }
    if (oldest == nullptr || held_bytes + bytes <= max_extra_bytes_) return;
    ReplaceCalibration(*oldest, nullptr);
  }
}

void ModelStore::ReplaceCalibration(Entry& entry, std::shared_ptr<const std::string> calibration) {
  const auto size = [](const auto& held) { return held == nullptr ? 0 : held->size(); };
  absl::MutexLock lock(&entry.extras_mutex);
  if (size(entry.calibration) == size(calibration) &&
      (calibration == nullptr || *entry.calibration == *calibration)) {
    return;
  }
  // Unsigned wrap-around makes a decrease come out right.
  const size_t more = size(calibration) - size(entry.calibration);
  // Others may have taken the room that was made.
  if (calibration_bytes_.fetch_add(more) + more > max_extra_bytes_ && calibration != nullptr) {
    calibration_bytes_ -= more;
    return;
  }
  bytes_ += more;
  entry.calibration.swap(calibration);
  ++entry.calibration_version;
}

bool ModelStore::FindLargest(ModelKey& key, std::shared_ptr<Entry>& entry) const {
  absl::ReaderMutexLock lock(&mutex_);
  size_t most = 0;
  for (const auto& [candidate, held] : entries_) {
    // Its text: that is what eviction can take.
    const size_t bytes = held->tier.bytes();
    if (entry != nullptr && bytes <= most) continue;
    key = candidate;
    entry = held;
    most = bytes;
  }
  return entry != nullptr;
}

void ModelStore::Evict() {
  // One thread at a time, or several would forget for the same shortage.
  absl::MutexLock evict_lock(&evict_mutex_);
  while (bytes_ > evict_above_) {
    ModelKey key;
    std::shared_ptr<Entry> largest;
    if (!FindLargest(key, largest)) return;
    // The store is not locked meanwhile, so that nobody waits for this but who teaches that tier.
    {
      absl::MutexLock lock(&largest->learn_mutex);
      if (largest->tier.ForgetOldest()) {
        if (!largest->dropped) Recount(*largest);
        continue;
      }
    }
    {
      absl::MutexLock lock(&mutex_);
      const auto it = entries_.find(key);
      if (it != entries_.end() && it->second == largest) Erase(it);
    }
    Uncount(*largest);
  }
}

std::shared_ptr<ModelStore::Entry> ModelStore::FindEntry(const ModelKey& key) const {
  absl::ReaderMutexLock lock(&mutex_);
  const auto it = entries_.find(key);
  return it == entries_.end() ? nullptr : it->second;
}

std::shared_ptr<const Tier> ModelStore::Find(const ModelKey& key) const {
  const std::shared_ptr<Entry> entry = FindEntry(key);
  if (entry == nullptr) return nullptr;
  return std::shared_ptr<const Tier>(entry, &entry->tier);
}

std::shared_ptr<const Tier> ModelStore::FindRecycled(const ModelKey& key) const {
  const std::shared_ptr<Entry> entry = FindEntry(key);
  if (entry == nullptr) return nullptr;
  absl::MutexLock lock(&entry->extras_mutex);
  return entry->recycled;
}

std::string ModelStore::Calibration(const ModelKey& key) const {
  const std::shared_ptr<Entry> entry = FindEntry(key);
  if (entry == nullptr) return "";
  std::shared_ptr<const std::string> calibration;
  {
    absl::MutexLock lock(&entry->extras_mutex);
    calibration = entry->calibration;
  }
  return calibration == nullptr ? "" : *calibration;
}

absl::Status ModelStore::Save() {
  if (options_.dir.empty()) return absl::OkStatus();
  absl::MutexLock save_lock(&save_mutex_);
  std::vector<std::pair<ModelKey, std::shared_ptr<Entry>>> entries;
  std::vector<std::string> obsolete;
  {
    absl::MutexLock lock(&mutex_);
    entries.assign(entries_.begin(), entries_.end());
    obsolete.swap(obsolete_);
  }
  absl::Status result;
  // Removed before the others are written: a key may have been dropped and taught again.
  for (const std::string& path : obsolete) {
    std::error_code error;
    fs::remove(path, error);
    if (error) {
      result.Update(absl::ErrnoToStatus(error.value(), absl::StrCat("cannot remove '", path, "'")));
      // Tried again with the next save.
      absl::MutexLock lock(&mutex_);
      obsolete_.push_back(path);
    }
  }
  for (const auto& [key, entry] : entries) {
    ModelFileContent content;
    content.key = key;
    uint64_t calibration_version = 0;
    {
      absl::MutexLock lock(&entry->extras_mutex);
      calibration_version = entry->calibration_version;
      if (entry->tier.version() + calibration_version == entry->saved_version) continue;
      if (entry->calibration != nullptr) content.calibration = *entry->calibration;
    }
    uint64_t version = 0;
    content.segments = entry->tier.Segments(&version);
    version += calibration_version;
    const absl::Status status = WriteFileAtomically(FilePath(key), EncodeModelFile(content));
    if (status.ok()) entry->saved_version = version;
    result.Update(status);
  }
  if (!result.ok()) save_failures_.fetch_add(1, std::memory_order_relaxed);
  return result;
}

size_t ModelStore::bytes() const { return bytes_; }

size_t ModelStore::tiers() const {
  absl::MutexLock lock(&mutex_);
  return entries_.size();
}

std::string ModelStore::FilePath(const ModelKey& key) const {
  // Lengths first, so that no two keys give the same bytes.
  const std::string identity =
      absl::StrCat(key.model_id.size(), ":", key.tokenizer_fingerprint.size(), ":", key.model_id,
                   key.tokenizer_fingerprint, key.tenant);
  const XXH128_hash_t hash = XXH3_128bits(identity.data(), identity.size());
  return absl::StrFormat("%s/%s%016x%016x%s", options_.dir, kFilePrefix, hash.high64, hash.low64,
                         kModelFileSuffix);
}

}  // namespace strata::draft
