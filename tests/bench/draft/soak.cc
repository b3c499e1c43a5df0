#include "tests/bench/draft/soak.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/bench/draft/draft_client.h"

namespace strata::draft_bench {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(2);
constexpr uint64_t kSamples = 100;
constexpr absl::Duration kEndTimeout = absl::Seconds(10);

void Add(const SoakCounts& from, SoakCounts& to) {
  to.closed += from.closed;
  to.abandoned += from.abandoned;
  to.lost += from.lost;
  to.rewound += from.rewound;
  to.streams += from.streams;
  to.cut_streams += from.cut_streams;
  to.returned_streams += from.returned_streams;
  to.messages += from.messages;
  to.steps += from.steps;
  to.drafted += from.drafted;
  to.unknown += from.unknown;
  to.exhausted += from.exhausted;
}

v1::Handshake HandshakeOf(const SoakOptions& options, const std::string& verifier) {
  v1::Handshake handshake;
  handshake.set_verifier_id(verifier);
  handshake.set_tokenizer_fingerprint(options.tokenizer_fingerprint);
  handshake.set_model_id("soak");
  handshake.set_vocab_size(static_cast<uint32_t>(options.text.vocab_size));
  return handshake;
}

// Hands out the sequences, evenly over the run.
class Pace {
 public:
  explicit Pace(const SoakOptions& options)
      : total_(options.sequences), duration_(options.duration), start_(absl::Now()) {}

  bool exhausted() const { return next_ >= total_; }
  // How many were begun.
  uint64_t begun() const { return std::min<uint64_t>(next_, total_); }
  double seconds() const { return absl::ToDoubleSeconds(absl::Now() - start_); }
  // The next one's number, from 0; nothing if none is due.
  std::optional<uint64_t> Take() {
    const double due =
        static_cast<double>(total_) * absl::FDivDuration(absl::Now() - start_, duration_);
    uint64_t next = next_;
    while (next < total_ && static_cast<double>(next) <= due) {
      if (next_.compare_exchange_weak(next, next + 1)) return next;
    }
    return std::nullopt;
  }

 private:
  const uint64_t total_;
  const absl::Duration duration_;
  const absl::Time start_;
  std::atomic<uint64_t> next_ = 0;
};

// One verifier: a connection and, one after another, its streams.
class Verifier {
 public:
  Verifier(const SoakOptions& options, std::span<const replay::Row> rows, int index, Pace* pace,
           std::unique_ptr<v1::DraftService::Stub> stub)
      : options_(options),
        rows_(rows),
        index_(index),
        pace_(pace),
        stub_(std::move(stub)),
        random_(options.seed * 1000 + static_cast<uint64_t>(index)) {}

  // Until no sequence is left that was not abandoned. The last stream stays open.
  void Run() {
    while (status_.ok()) {
      Begin();
      if (live_.empty()) {
        if (pace_->exhausted()) return;
        absl::SleepFor(kPause);
        continue;
      }
      status_ = Step();
      if (status_.ok() && left_ == 0) status_ = EndStream();
    }
  }
  void Close() {
    if (stream_ != nullptr) status_.Update(stream_->Finish());
  }

  const absl::Status& status() const { return status_; }
  const SoakCounts& counts() const { return counts_; }

 private:
  struct Live {
    LiveSequence sequence;
    // Steps after which it is given up, or rewound; 0: never.
    size_t abandon_at = 0;
    size_t rewind_at = 0;
  };

  bool Chance(double share) { return std::bernoulli_distribution(share)(random_); }

  // Opens a stream if there is none, and begins sequences.
  void Begin() {
    if (stream_ == nullptr) {
      stream_ = std::make_unique<DraftStream>(
          *stub_, HandshakeOf(options_, absl::StrCat("soak-", index_, "-", counts_.streams)));
      ++counts_.streams;
      left_ = 1 + random_() % (2 * options_.stream_sequences);
    }
    while (live_.size() < options_.batch && left_ > 0) {
      const auto number = pace_->Take();
      if (!number.has_value()) break;
      --left_;
      const std::string tenant =
          Chance(0.5) ? ""
                      : absl::StrCat("tenant-", *number * options_.tenants / options_.sequences);
      Live live{LiveSequence(*number + 1, tenant, MakeText(rows_, options_.text, random_),
                             options_.text.vocab_size)};
      if (Chance(options_.abandoned)) {
        live.abandon_at = 1 + random_() % 8;
      } else if (Chance(options_.rewound)) {
        live.rewind_at = 2 + random_() % 4;
      }
      live_.push_back(std::move(live));
    }
  }

  void Fill(v1::DraftRequest& request) {
    for (Live& live : live_) {
      live.sequence.Fill(options_.budget, random_, *request.add_sequences());
    }
  }

  absl::Status Step() {
    v1::DraftRequest request;
    v1::DraftResponse response;
    Fill(request);
    absl::Status status = stream_->Exchange(request, response);
    if (!status.ok()) return status;
    ++counts_.messages;
    for (size_t i = 0; i < live_.size(); ++i) {
      const v1::SequenceAnswer& answer = response.answers(static_cast<int>(i));
      ++counts_.steps;
      counts_.drafted += static_cast<uint64_t>(answer.tree().tokens_size());
      if (answer.status() == v1::SEQUENCE_STATUS_UNKNOWN) ++counts_.unknown;
      if (answer.status() == v1::SEQUENCE_STATUS_EXHAUSTED) ++counts_.exhausted;
      status = live_[i].sequence.Take(answer);
      if (!status.ok()) return status;
      if (live_[i].sequence.steps() == live_[i].rewind_at) {
        live_[i].sequence.Rewind(random_() % 8);
        ++counts_.rewound;
      }
    }
    std::erase_if(live_, [this](const Live& live) {
      if (live.sequence.closed()) {
        ++counts_.closed;
        return true;
      }
      if (live.abandon_at == 0 || live.sequence.steps() < live.abandon_at) return false;
      ++counts_.abandoned;
      return true;
    });
    return absl::OkStatus();
  }

  absl::Status EndStream() {
    absl::Status status;
    bool returns = false;
    if (Chance(options_.cut)) {
      ++counts_.cut_streams;
      returns = Chance(options_.returning);
      // Half of them while the service works on a message.
      if (!live_.empty() && Chance(0.5)) {
        v1::DraftRequest request;
        Fill(request);
        status = stream_->Send(request);
      }
      stream_->Cut();
    } else {
      status = stream_->Finish();
    }
    stream_.reset();
    if (returns) {
      ++counts_.returned_streams;
    } else {
      counts_.lost += live_.size();
      live_.clear();
    }
    return status;
  }

  const SoakOptions& options_;
  const std::span<const replay::Row> rows_;
  const int index_;
  Pace* const pace_;
  const std::unique_ptr<v1::DraftService::Stub> stub_;
  std::mt19937_64 random_;
  std::unique_ptr<DraftStream> stream_;
  // Sequences that are still to begin on the stream.
  uint64_t left_ = 0;
  std::vector<Live> live_;
  absl::Status status_;
  SoakCounts counts_;
};

// The verifiers, each in a thread.
class Verifiers {
 public:
  static absl::StatusOr<std::unique_ptr<Verifiers>> Start(const SoakOptions& options,
                                                          std::span<const replay::Row> rows,
                                                          const std::string& address, Pace* pace) {
    auto verifiers = std::unique_ptr<Verifiers>(new Verifiers());
    for (int i = 0; i < options.streams; ++i) {
      auto stub = Connect(address);
      if (!stub.ok()) return stub.status();
      verifiers->verifiers_.push_back(
          std::make_unique<Verifier>(options, rows, i, pace, *std::move(stub)));
    }
    verifiers->running_ = options.streams;
    for (const auto& verifier : verifiers->verifiers_) {
      verifiers->threads_.emplace_back([raw = verifiers.get(), one = verifier.get()] {
        one->Run();
        --raw->running_;
      });
    }
    return verifiers;
  }
  ~Verifiers() { Join().IgnoreError(); }

  bool running() const { return running_ > 0; }
  // Waits until all have run; the first error of any.
  absl::Status Join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    absl::Status status;
    for (const auto& verifier : verifiers_) status.Update(verifier->status());
    return status;
  }
  // After Join.
  absl::Status Close() {
    for (const auto& verifier : verifiers_) verifier->Close();
    return Join();
  }
  SoakCounts counts() const {
    SoakCounts counts;
    for (const auto& verifier : verifiers_) Add(verifier->counts(), counts);
    return counts;
  }

 private:
  Verifiers() = default;

  std::vector<std::unique_ptr<Verifier>> verifiers_;
  std::vector<std::thread> threads_;
  std::atomic<int> running_ = 0;
};

absl::StatusOr<SoakSample> Sample(const Pace& pace, const ServiceProcess& service,
                                  v1::DraftService::Stub& stub) {
  auto info = GetInfo(stub);
  if (!info.ok()) return info.status();
  SoakSample sample;
  sample.seconds = pace.seconds();
  sample.sequences = pace.begun();
  sample.rss_bytes = service.RssBytes();
  sample.live_sequences = info->live_sequences();
  sample.model_tier_bytes = info->model_tier_bytes();
  return sample;
}

absl::Status TakeSamples(const SoakOptions& options, const Pace& pace, const Verifiers& verifiers,
                         const ServiceProcess& service, v1::DraftService::Stub& stub,
                         std::vector<SoakSample>& samples) {
  while (samples.size() < kSamples) {
    const uint64_t mark = options.sequences * (samples.size() + 1) / kSamples;
    while (pace.begun() < mark && verifiers.running()) absl::SleepFor(kPause);
    // Verifiers that ended early did not do so for a good reason, which Join tells.
    if (pace.begun() < mark) return absl::OkStatus();
    auto sample = Sample(pace, service, stub);
    if (!sample.ok()) return sample.status();
    samples.push_back(*sample);
  }
  return absl::OkStatus();
}

// Sequences give way only where there is no room: opens as many as there may be, and closes them.
absl::Status FillUp(const SoakOptions& options, v1::DraftService::Stub& stub) {
  DraftStream stream(stub, HandshakeOf(options, "soak-fill"));
  for (uint64_t id = 1; id <= options.max_sequences; ++id) {
    v1::DraftRequest request;
    v1::DraftResponse response;
    v1::SequenceRequest& sequence = *request.add_sequences();
    sequence.set_sequence_id(id);
    sequence.set_epoch(1);
    sequence.add_tokens(0);
    sequence.set_prompt_length(1);
    absl::Status status = stream.Exchange(request, response);
    if (!status.ok()) return status;
    if (response.answers(0).status() != v1::SEQUENCE_STATUS_OK) {
      return absl::ResourceExhaustedError(
          absl::StrCat("idle sequences did not give way: ", response.answers(0).message()));
    }
  }
  return stream.Finish();
}

absl::StatusOr<uint64_t> LiveSequences(v1::DraftService::Stub& stub) {
  auto info = GetInfo(stub);
  if (!info.ok()) return info.status();
  return info->live_sequences();
}

// What lives on when everyone left: the service learns of ended streams a little later.
absl::StatusOr<uint64_t> AwaitNone(v1::DraftService::Stub& stub) {
  const absl::Time end = absl::Now() + kEndTimeout;
  while (true) {
    auto live = LiveSequences(stub);
    if (!live.ok() || *live == 0 || absl::Now() > end) return live;
    absl::SleepFor(kPause);
  }
}

}  // namespace

absl::StatusOr<SoakResult> Soak(const SoakOptions& options, std::span<const replay::Row> rows,
                                const ServiceProcess& service) {
  auto stub = Connect(service.address());
  if (!stub.ok()) return stub.status();
  Pace pace(options);
  auto verifiers = Verifiers::Start(options, rows, service.address(), &pace);
  if (!verifiers.ok()) return verifiers.status();

  SoakResult result;
  absl::Status status = TakeSamples(options, pace, **verifiers, service, **stub, result.samples);
  status.Update((*verifiers)->Join());
  if (!status.ok()) return status;
  result.seconds = pace.seconds();
  result.counts = (*verifiers)->counts();

  auto live = LiveSequences(**stub);
  if (!live.ok()) return live.status();
  result.live_at_end = *live;
  absl::SleepFor(options.idle + absl::Seconds(1));
  status = FillUp(options, **stub);
  if (!status.ok()) return status;
  live = AwaitNone(**stub);
  if (!live.ok()) return live.status();
  result.live_after_eviction = *live;

  status = (*verifiers)->Close();
  if (!status.ok()) return status;
  live = AwaitNone(**stub);
  if (!live.ok()) return live.status();
  result.live_after_streams = *live;
  result.rss_after_streams = service.RssBytes();
  return result;
}

}  // namespace strata::draft_bench
