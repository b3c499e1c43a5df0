#include "services/draft/corpus/corpus_holder.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/base/steady_clock.h"
#include "services/draft/corpus/file_util.h"
#include "services/draft/corpus/manifest.h"
#include "services/draft/corpus/pace.h"

namespace strata::draft {
namespace {

// The first snapshot is read for so long at most: whoever starts the service waits for it.
constexpr absl::Duration kWarmTime = absl::Seconds(2);
// Later ones are read to so many bytes at most: slowly, and a shutdown waits for it.
constexpr size_t kWarmBytes = size_t{16} << 20;
// One call in so many is remembered.
constexpr uint32_t kSampleEvery = 32;

absl::Status CheckTokenizer(const CorpusTier& tier, const std::string& wanted) {
  if (wanted.empty() || tier.tokenizer_fingerprint() == wanted) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("corpus snapshot ", tier.snapshot_name(), " was made with the tokenizer ",
                   tier.tokenizer_fingerprint(), "; wanted is ", wanted));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const CorpusHolder>> CorpusHolder::Open(
    CorpusHolderOptions options) {
  auto cache = std::make_shared<CorpusCache>(options.cache_bytes);
  // Before the snapshot is resolved: if CURRENT is written between, it is looked at again.
  Version version = ReadVersion(options.dir);
  auto tier = CorpusTier::Open(options.dir, cache);
  if (!tier.ok()) return tier.status();
  absl::Status status = CheckTokenizer(**tier, options.tokenizer_fingerprint);
  if (!status.ok()) return status;
  const absl::Time deadline = SteadyNow() + kWarmTime;
  // Half of the cache: rows take more room there than bytes, and what is asked for needs some.
  (*tier)->Warm(options.cache_bytes / 2, [deadline] { return SteadyNow() < deadline; });
  std::shared_ptr<CorpusHolder> holder(
      new CorpusHolder(std::move(options), std::move(cache), *std::move(tier), std::move(version)));
  std::error_code error;
  const bool fixed =
      std::filesystem::exists(std::filesystem::path(holder->options_.dir) / kManifestName, error);
  if (!fixed && holder->options_.poll_interval > absl::ZeroDuration()) {
    holder->watcher_ = std::thread([raw = holder.get()] { raw->Watch(); });
  }
  return holder;
}

CorpusHolder::CorpusHolder(CorpusHolderOptions options, std::shared_ptr<CorpusCache> cache,
                           std::shared_ptr<const CorpusTier> first, Version version)
    : options_(std::move(options)),
      cache_(std::move(cache)),
      fingerprint_(first->tokenizer_fingerprint()),
      version_(std::move(version)),
      tier_(std::move(first)) {}

CorpusHolder::~CorpusHolder() {
  {
    absl::MutexLock lock(&stop_mutex_);
    stop_ = true;
    stopped_.NotifyAll();
  }
  if (watcher_.joinable()) watcher_.join();
}

CorpusHolder::Version CorpusHolder::ReadVersion(const std::string& dir) {
  Version version;
  const std::string path = (std::filesystem::path(dir) / kCurrentName).string();
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return version;
  version.changed = info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec;
  version.inode = info.st_ino;
  auto name = ReadSmallFile(path, 4096);
  if (name.ok()) version.name = *std::move(name);
  return version;
}

std::shared_ptr<const CorpusTier> CorpusHolder::tier() const {
  absl::ReaderMutexLock lock(&mutex_);
  return tier_;
}

uint64_t CorpusHolder::swaps() const {
  absl::ReaderMutexLock lock(&mutex_);
  return swaps_;
}

absl::Status CorpusHolder::Poll() const {
  absl::MutexLock lock(&poll_mutex_);
  std::erase_if(retired_, [](const auto& tier) { return tier.use_count() == 1; });
  Version version = ReadVersion(options_.dir);
  // A CURRENT that cannot be read may be about to come back, as on a network volume.
  if (version.name.empty() || version == version_) return absl::OkStatus();
  version_ = std::move(version);
  auto next = CorpusTier::Open(options_.dir, cache_);
  absl::Status status = next.ok() ? CheckTokenizer(**next, fingerprint_) : next.status();
  if (!status.ok()) {
    refusals_.fetch_add(1, std::memory_order_relaxed);
    spdlog::warn(
        "the corpus stays at snapshot {}, because the one that "
        "CURRENT names is unfit: {}",
        snapshot_name(), status.ToString());
    return status;
  }
  Warm(**next);
  std::shared_ptr<const CorpusTier> live = *std::move(next);
  spdlog::info("corpus snapshot {}: {} tokens, in the place of {}", live->snapshot_name(),
               live->token_count(), snapshot_name());
  {
    absl::MutexLock swap_lock(&mutex_);
    tier_.swap(live);
    ++swaps_;
  }
  retired_.push_back(std::move(live));
  return absl::OkStatus();
}

void CorpusHolder::Watch() const {
  const auto stopped = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(stop_mutex_) { return stop_; };
  for (;;) {
    {
      absl::MutexLock lock(&stop_mutex_);
      if (stopped_.WaitFor(stop_mutex_, options_.poll_interval, stopped)) return;
    }
    Poll().IgnoreError();
  }
}

void CorpusHolder::Warm(const CorpusTier& tier) const {
  Pace pace;
  // The rest is the live one's.
  tier.Warm(std::min(kWarmBytes, options_.cache_bytes / 4), [&pace] {
    pace.Step();
    return true;
  });
  std::vector<ContextTail> tails;
  {
    absl::MutexLock lock(&recent_mutex_);
    const size_t size = std::min(remembered_, kRecent);
    tails.assign(recent_.begin(), recent_.begin() + static_cast<std::ptrdiff_t>(size));
  }
  Evidence evidence;
  for (const ContextTail& tail : tails) {
    const MatchQuery query{&tail, kMaxContextOrder};
    tier.Match({&query, 1}, 1, {&evidence, 1});
    pace.Step();
  }
}

void CorpusHolder::Remember(const MatchQuery& query) const {
  // A request never waits for it.
  if (!recent_mutex_.TryLock()) return;
  recent_[remembered_++ % kRecent] = *query.tail;
  recent_mutex_.Unlock();
}

void CorpusHolder::Match(std::span<const MatchQuery> queries, int levels,
                         std::span<Evidence> out) const {
  tier()->Match(queries, levels, out);
  thread_local uint32_t calls = 0;
  if (++calls % kSampleEvery == 0 && !queries.empty()) Remember(queries.front());
}

}  // namespace strata::draft
