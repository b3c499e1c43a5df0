#include "tests/bench/draft/swap.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/base/atomic_file.h"

namespace strata::draft_bench {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kLookInterval = absl::Milliseconds(5);

absl::Status WriteCurrent(const std::string& root, const std::string& name) {
  return WriteFileAtomically((fs::path(root) / "CURRENT").string(), name + "\n");
}

// Asks in a thread of its own, for the phase that is set.
class SteadyAsker {
 public:
  SteadyAsker(std::unique_ptr<Asker> asker, double rate)
      : asker_(std::move(asker)), interval_(absl::Seconds(1 / rate)), thread_([this] { Run(); }) {}
  ~SteadyAsker() { Stop().IgnoreError(); }

  // Messages that come from now on count for `phase`, which must stay until the next call.
  void Enter(Asked* phase) {
    absl::MutexLock lock(&mutex_);
    phase_ = phase;
  }
  absl::Status Stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    return status_;
  }

 private:
  void Run() {
    absl::Time due = absl::Now();
    while (!stop_) {
      // Where the message before took too long, this one is kept waiting: that counts. That a sleep
      // ends late does not.
      const bool waits = absl::Now() > due;
      if (!waits) absl::SleepFor(due - absl::Now());
      Asked asked;
      status_ = asker_->Ask(waits ? due : absl::Now(), asked);
      if (!status_.ok()) return;
      // By the phase in which the answer came: a message that waits for a swap counts for it.
      absl::MutexLock lock(&mutex_);
      if (phase_ != nullptr) phase_->Add(asked);
      due += interval_;
    }
  }

  const std::unique_ptr<Asker> asker_;
  const absl::Duration interval_;
  std::atomic<bool> stop_ = false;
  absl::Mutex mutex_;
  Asked* phase_ ABSL_GUARDED_BY(mutex_) = nullptr;
  absl::Status status_;
  std::thread thread_;
};

absl::Status AwaitSnapshot(v1::DraftService::Stub& stub, const std::string& name,
                           absl::Duration timeout) {
  const absl::Time end = absl::Now() + timeout;
  while (true) {
    auto info = GetInfo(stub);
    if (!info.ok()) return info.status();
    if (info->snapshot() == name) return absl::OkStatus();
    if (absl::Now() > end) {
      return absl::DeadlineExceededError(absl::StrCat("the service still serves ", info->snapshot(),
                                                      ", not ", name, ", after ",
                                                      absl::FormatDuration(timeout)));
    }
    absl::SleepFor(kLookInterval);
  }
}

absl::Status PlaySwaps(const SwapOptions& options, const std::string& from,
                       v1::DraftService::Stub& stub, SteadyAsker& asker, SwapResult& result) {
  // The first messages of a service are slow, which would make all later ones look fast.
  absl::SleepFor(options.calm);
  asker.Enter(&result.before);
  absl::SleepFor(options.calm);
  for (int i = 0; i < options.swaps; ++i) {
    const std::string& name = i % 2 == 0 ? options.to : from;
    asker.Enter(&result.during);
    const absl::Time begin = absl::Now();
    absl::Status status = WriteCurrent(options.corpus, name);
    status.Update(AwaitSnapshot(stub, name, options.timeout));
    if (!status.ok()) return status;
    result.swap_ms.Add(absl::ToDoubleMilliseconds(absl::Now() - begin));
    asker.Enter(&result.after);
    absl::SleepFor(options.calm);
  }
  return absl::OkStatus();
}

// Calls `use` with the descriptor and size of every file of the snapshot.
template <typename Use>
absl::Status ForFiles(const fs::path& snapshot, Use use) {
  std::error_code error;
  for (auto it = fs::recursive_directory_iterator(snapshot, error);
       !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    if (!it->is_regular_file()) continue;
    const int file = open(it->path().c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return absl::UnavailableError(absl::StrCat("cannot open ", it->path().string()));
    use(file, fs::file_size(it->path(), error));
    close(file);
  }
  if (!error) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(snapshot.string(), ": ", error.message()));
}

absl::Status DropFromPageCache(const fs::path& snapshot) {
  return ForFiles(snapshot, [](int file, uint64_t) {
    // Only what is written is dropped.
    fdatasync(file);
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  });
}

absl::Status CountResident(const fs::path& snapshot, ColdResult& result) {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  result.snapshot_bytes = 0;
  result.resident_bytes = 0;
  return ForFiles(snapshot, [&](int file, uint64_t size) {
    result.snapshot_bytes += size;
    if (size == 0) return;
    void* const mapped = mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) return;
    std::vector<unsigned char> pages((size + page - 1) / page);
    if (mincore(mapped, size, pages.data()) == 0) {
      for (const unsigned char one : pages) result.resident_bytes += (one & 1) * page;
    }
    munmap(mapped, size);
  });
}

}  // namespace

void Asked::Add(const Asked& other) {
  us.Add(other.us);
  late += other.late;
  overdue += other.overdue;
  answers += other.answers;
  failed += other.failed;
  empty += other.empty;
  with_corpus += other.with_corpus;
}

Asker::Asker(const AskOptions& options, std::span<const replay::Row> rows)
    : options_(options), rows_(rows), random_(options.seed) {}

absl::StatusOr<std::unique_ptr<Asker>> Asker::Open(const AskOptions& options,
                                                   std::span<const replay::Row> rows,
                                                   const std::string& address) {
  std::unique_ptr<Asker> asker(new Asker(options, rows));
  auto stub = Connect(address);
  if (!stub.ok()) return stub.status();
  asker->stub_ = *std::move(stub);
  auto info = GetInfo(*asker->stub_);
  if (!info.ok()) return info.status();
  v1::Handshake handshake;
  handshake.set_verifier_id("swap");
  handshake.set_tokenizer_fingerprint(info->tokenizer_fingerprint());
  handshake.set_model_id("swap");
  handshake.set_vocab_size(static_cast<uint32_t>(options.text.vocab_size));
  asker->stream_ = std::make_unique<DraftStream>(*asker->stub_, std::move(handshake));
  return asker;
}

absl::Status Asker::Ask(absl::Time begin, Asked& asked) {
  std::erase_if(live_, [](const LiveSequence& sequence) { return sequence.closed(); });
  while (live_.size() < options_.batch) {
    live_.emplace_back(next_id_++, "", MakeText(rows_, options_.text, random_),
                       options_.text.vocab_size);
  }
  v1::DraftRequest request;
  v1::DraftResponse response;
  request.set_deadline_us(static_cast<uint32_t>(absl::ToInt64Microseconds(options_.deadline)));
  for (LiveSequence& sequence : live_) {
    sequence.Fill(options_.budget, random_, *request.add_sequences());
  }
  absl::Status status = stream_->Exchange(request, response);
  const absl::Duration took = absl::Now() - begin;
  if (!status.ok()) return status;
  asked.us.Add(absl::ToDoubleMicroseconds(took));
  if (took > options_.deadline) ++asked.late;
  if (took > options_.deadline + options_.tolerance) ++asked.overdue;
  for (size_t i = 0; i < live_.size(); ++i) {
    const v1::SequenceAnswer& answer = response.answers(static_cast<int>(i));
    if (request.sequences(static_cast<int>(i)).node_budget() > 0) {
      ++asked.answers;
      if (answer.status() != v1::SEQUENCE_STATUS_OK) ++asked.failed;
      if (answer.tree().tokens().empty()) ++asked.empty;
      const auto& tiers = answer.tree().tiers();
      if (std::find(tiers.begin(), tiers.end(), v1::TIER_CORPUS) != tiers.end()) {
        ++asked.with_corpus;
      }
    }
    status = live_[i].Take(answer);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadCurrent(const std::string& root) {
  std::string name;
  if (std::ifstream(fs::path(root) / "CURRENT") >> name) return name;
  return absl::NotFoundError(absl::StrCat("there is no CURRENT in ", root));
}

absl::StatusOr<SwapResult> Swap(const SwapOptions& options, std::span<const replay::Row> rows,
                                const ServiceProcess& service) {
  const auto from = ReadCurrent(options.corpus);
  if (!from.ok()) return from.status();
  if (*from == options.to) {
    return absl::InvalidArgumentError(absl::StrCat("CURRENT names ", options.to, " already"));
  }
  auto stub = Connect(service.address());
  if (!stub.ok()) return stub.status();
  auto asker = Asker::Open(options.ask, rows, service.address());
  if (!asker.ok()) return asker.status();

  SwapResult result;
  SteadyAsker steady(*std::move(asker), options.rate);
  absl::Status status = PlaySwaps(options, *from, **stub, steady, result);
  status.Update(steady.Stop());
  // Also after an error, and an odd number of swaps.
  const auto now = ReadCurrent(options.corpus);
  if (!now.ok() || *now != *from) status.Update(WriteCurrent(options.corpus, *from));
  if (!status.ok()) return status;
  return result;
}

absl::StatusOr<ColdResult> Cold(const ColdOptions& options, std::span<const replay::Row> rows) {
  const auto name = ReadCurrent(options.corpus);
  if (!name.ok()) return name.status();
  const fs::path snapshot = fs::path(options.corpus) / *name;
  ColdResult result;
  for (int round = 0; round < options.rounds; ++round) {
    absl::Status status = DropFromPageCache(snapshot);
    if (!status.ok()) return status;
    const absl::Time begin = absl::Now();
    auto service = ServiceProcess::Start(options.service, options.service_flags);
    if (!service.ok()) return service.status();
    result.start_ms.Add(absl::ToDoubleMilliseconds(absl::Now() - begin));
    AskOptions ask = options.ask;
    ask.seed += static_cast<uint64_t>(round);
    auto asker = Asker::Open(ask, rows, (*service)->address());
    if (!asker.ok()) return asker.status();
    // What opening read, and read ahead.
    status = DropFromPageCache(snapshot);
    status.Update(CountResident(snapshot, result));
    for (Asked* phase : {&result.first, &result.next}) {
      for (size_t i = 0; status.ok() && i < options.first; ++i) {
        status = (*asker)->Ask(absl::Now(), *phase);
      }
    }
    asker->reset();
    status.Update((*service)->Stop());
    if (!status.ok()) return status;
  }
  return result;
}

}  // namespace strata::draft_bench
