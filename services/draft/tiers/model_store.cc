#include "services/draft/tiers/model_store.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/draft/tiers/model_file.h"
#define XXH_INLINE_ALL
#include "xxhash.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;

constexpr char kFilePrefix[] = "model-";
constexpr char kFileSuffix[] = ".tier";
constexpr char kDamagedSuffix[] = ".damaged";
constexpr char kLockName[] = "LOCK";

// Upper end of NgramIndex::bytes() a token.
constexpr size_t kBytesPerToken = 200;
// A block's index grows by doubling under the lock; at this size that takes a few milliseconds.
constexpr size_t kMaxBlockTokens = 32768;
constexpr size_t kMinBlockTokens = 64;
// Blocks that a full store is cut into at least: eviction forgets one at a time.
constexpr size_t kBlocksPerStore = 8;

size_t BlockTokens(size_t max_bytes) {
  return std::clamp(max_bytes / kBlocksPerStore / kBytesPerToken, kMinBlockTokens, kMaxBlockTokens);
}

}  // namespace

ModelStore::ModelStore(const ModelStoreOptions& options)
    : options_(options), block_tokens_(BlockTokens(options.max_bytes)) {}

absl::StatusOr<std::unique_ptr<ModelStore>> ModelStore::Open(const ModelStoreOptions& options,
                                                             std::vector<std::string>* warnings) {
  if (options.max_bytes < kMinModelStoreBytes) {
    return absl::InvalidArgumentError(absl::StrCat("model tier memory is ", options.max_bytes,
                                                   " bytes, must be at least ",
                                                   kMinModelStoreBytes));
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
    } else if (absl::EndsWith(name, kFileSuffix)) {
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
  if (content.ok() && FilePath(content->key) != path) {
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
    Learn(content->key, segment.tokens, segment.first_key, segment.end_key);
  }
  absl::ReaderMutexLock lock(&mutex_);
  const auto it = entries_.find(content->key);
  if (it != entries_.end()) it->second->saved_version = it->second->tier.version();
}

std::shared_ptr<ModelStore::Entry> ModelStore::FindOrAdd(const ModelKey& key) {
  {
    absl::ReaderMutexLock lock(&mutex_);
    const auto it = entries_.find(key);
    if (it != entries_.end()) return it->second;
  }
  absl::MutexLock lock(&mutex_);
  auto [it, added] = entries_.try_emplace(key);
  if (!added) return it->second;
  const auto entry = std::make_shared<Entry>(block_tokens_);
  entry->last_learned = ++clock_;
  it->second = entry;
  if (entries_.size() > options_.max_tiers) {
    const auto oldest =
        std::min_element(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) {
          return a.second->last_learned < b.second->last_learned;
        });
    Drop(oldest);
  }
  return entry;
}

void ModelStore::Drop(EntryMap::iterator it) {
  {
    Entry& entry = *it->second;
    absl::MutexLock lock(&entry.learn_mutex);
    entry.dropped = true;
    bytes_ -= entry.counted_bytes;
    entry.counted_bytes = 0;
  }
  if (!options_.dir.empty()) obsolete_.push_back(FilePath(it->first));
  entries_.erase(it);
}

void ModelStore::Recount(Entry& entry) {
  const size_t bytes = entry.tier.bytes();
  // Unsigned wrap-around makes a decrease come out right.
  bytes_ += bytes - entry.counted_bytes;
  entry.counted_bytes = bytes;
}

void ModelStore::Learn(const ModelKey& key, std::span<const TokenId> tokens, uint32_t first_key,
                       uint32_t end_key) {
  for (;;) {
    const std::shared_ptr<Entry> entry = FindOrAdd(key);
    absl::MutexLock lock(&entry->learn_mutex);
    // Dropped between the two locks: what is taught now would be lost, and its bytes not counted.
    if (entry->dropped) continue;
    entry->last_learned = ++clock_;
    entry->tier.Append(tokens, first_key, end_key);
    Recount(*entry);
    break;
  }
  if (bytes_ > options_.max_bytes) Evict();
}

void ModelStore::Evict() {
  absl::MutexLock lock(&mutex_);
  while (bytes_ > options_.max_bytes && !entries_.empty()) {
    auto largest = entries_.begin();
    size_t largest_bytes = 0;
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      const size_t bytes = it->second->tier.bytes();
      if (bytes > largest_bytes) {
        largest = it;
        largest_bytes = bytes;
      }
    }
    Entry& entry = *largest->second;
    bool emptied = false;
    {
      absl::MutexLock learn_lock(&entry.learn_mutex);
      emptied = !entry.tier.DropOldestBlock();
      Recount(entry);
    }
    if (emptied) Drop(largest);
  }
}

std::shared_ptr<const Tier> ModelStore::Find(const ModelKey& key) const {
  absl::ReaderMutexLock lock(&mutex_);
  const auto it = entries_.find(key);
  if (it == entries_.end()) return nullptr;
  return std::shared_ptr<const Tier>(it->second, &it->second->tier);
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
    }
  }
  for (const auto& [key, entry] : entries) {
    if (entry->tier.version() == entry->saved_version) continue;
    ModelFileContent content;
    content.key = key;
    uint64_t version = 0;
    content.segments = entry->tier.Segments(&version);
    const absl::Status status = WriteFileAtomically(FilePath(key), EncodeModelFile(content));
    if (status.ok()) entry->saved_version = version;
    result.Update(status);
  }
  return result;
}

size_t ModelStore::bytes() const { return bytes_; }

std::string ModelStore::FilePath(const ModelKey& key) const {
  // Lengths first, so that no two keys give the same bytes.
  const std::string identity =
      absl::StrCat(key.model_id.size(), ":", key.tokenizer_fingerprint.size(), ":", key.model_id,
                   key.tokenizer_fingerprint, key.tenant);
  const XXH128_hash_t hash = XXH3_128bits(identity.data(), identity.size());
  return absl::StrFormat("%s/%s%016x%016x%s", options_.dir, kFilePrefix, hash.high64, hash.low64,
                         kFileSuffix);
}

}  // namespace strata::draft
