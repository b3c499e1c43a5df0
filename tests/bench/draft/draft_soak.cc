// strata-draft-soak: a day of traffic through one draft service, in minutes.
//
// Starts the service, plays recorded answers through several streams as sequences that are closed,
// abandoned (never spoken of again) or cut off with their stream, and watches the service's memory.
// Time is compressed: what the service would take for idle after a minute it does after a second
// (--idle-eviction). Ends with 1 if memory grew from a quarter of the run to its end, or if a
// sequence outlived its stream.

#include <grpcpp/grpcpp.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "strata/v1/draft.grpc.pb.h"
#include "tests/bench/replay/rows.h"

extern char** environ;

namespace strata {
namespace {

using Clock = std::chrono::steady_clock;
using replay::Row;

struct Flags {
  std::string service;
  std::string replay;
  int64_t vocab_size = 49152;
  uint64_t sequences = 100000;
  int streams = 4;
  int batch = 16;
  std::string model_tier_bytes = "64MB";
  double idle_s = 1;
  double allowed_growth_mib = 16;
};

[[noreturn]] void Fail(const std::string& why) {
  std::fprintf(stderr, "strata-draft-soak: %s\n", why.c_str());
  std::exit(1);
}

// The service as a process of its own, ended with the object.
class Service {
 public:
  explicit Service(const Flags& flags) {
    std::string folder = (std::filesystem::temp_directory_path() / "strata-soak-XXXXXX").string();
    if (mkdtemp(folder.data()) == nullptr) Fail("cannot make a folder like " + folder);
    folder_ = folder;
    const std::string port_file = folder_ + "/port";
    const std::string idle = std::to_string(flags.idle_s);
    std::vector<std::string> words = {flags.service,
                                      "--listen",
                                      "127.0.0.1:0",
                                      "--port-file",
                                      port_file,
                                      "--model-tier-bytes",
                                      flags.model_tier_bytes,
                                      "--idle-eviction",
                                      idle,
                                      "--max-sequences",
                                      "1024",
                                      "--model-tier-dir",
                                      folder_ + "/tiers",
                                      "--save-interval",
                                      "10",
                                      "--log-level",
                                      "warn"};
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    if (posix_spawn(&pid_, flags.service.c_str(), nullptr, nullptr, arguments.data(), environ) !=
        0) {
      Fail("cannot start " + flags.service);
    }
    for (int i = 0; i < 300 && address_.empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      std::ifstream(port_file) >> address_;
    }
    if (address_.empty()) Fail("the service does not start");
  }
  ~Service() {
    kill(pid_, SIGTERM);
    int status = 0;
    waitpid(pid_, &status, 0);
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  const std::string& address() const { return address_; }
  double rss_mib() const {
    std::ifstream statm("/proc/" + std::to_string(pid_) + "/statm");
    int64_t total = 0;
    int64_t resident = 0;
    statm >> total >> resident;
    return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
  }

 private:
  std::string folder_;
  pid_t pid_ = 0;
  std::string address_;
};

// What all streams share.
struct Traffic {
  const Flags& flags;
  const std::vector<Row>& rows;
  v1::DraftService::Stub& stub;
  std::atomic<uint64_t> opened = 0;
  std::atomic<uint64_t> closed = 0;
  std::atomic<uint64_t> abandoned = 0;
  std::atomic<uint64_t> cut = 0;
  std::atomic<uint64_t> forgotten = 0;
  std::atomic<uint64_t> refused = 0;
  std::atomic<uint64_t> drafted = 0;
};

struct Sequence {
  uint64_t id = 0;
  const Row* row = nullptr;
  size_t sent = 0;
  // Tokens of the row's output after which its client goes away.
  size_t end = 0;
  bool abandon = false;
  int last_nodes = 0;
};

// One verifier's stream: some hundred sequences, or all that are left if it is to last.
void PlayStream(Traffic& traffic, int verifier, std::mt19937_64& random, bool lasting) {
  grpc::ClientContext context;
  const auto stream = traffic.stub.DraftStream(&context);
  std::vector<Sequence> live;
  uint64_t next_id = 1;
  const uint64_t here = lasting ? UINT64_MAX : 200 + random() % 400;
  bool first = true;
  v1::DraftResponse response;
  while (true) {
    while (live.size() < static_cast<size_t>(traffic.flags.batch) && next_id <= here) {
      if (traffic.opened.fetch_add(1) >= traffic.flags.sequences) {
        traffic.opened.fetch_sub(1);
        break;
      }
      Sequence sequence;
      sequence.id = next_id++;
      sequence.row = &traffic.rows[random() % traffic.rows.size()];
      sequence.end = std::min<size_t>(sequence.row->output.size(), 8 + random() % 48);
      sequence.abandon = random() % 5 == 0;
      live.push_back(sequence);
    }
    if (live.empty()) break;
    v1::DraftRequest request;
    if (first) {
      v1::Handshake* handshake = request.mutable_handshake();
      handshake->set_verifier_id("soak-" + std::to_string(verifier));
      handshake->set_model_id("recorded");
      handshake->set_tokenizer_fingerprint("recorded");
      handshake->set_vocab_size(static_cast<uint32_t>(traffic.flags.vocab_size));
      first = false;
    }
    for (Sequence& sequence : live) {
      v1::SequenceRequest& out = *request.add_sequences();
      const Row& row = *sequence.row;
      out.set_sequence_id(sequence.id);
      out.set_epoch(1);
      out.set_position(
          static_cast<uint32_t>(sequence.sent == 0 ? 0 : row.prompt.size() + sequence.sent - 1));
      if (sequence.sent == 0) {
        for (const TokenId token : row.prompt) out.add_tokens(static_cast<uint32_t>(token));
        out.set_prompt_length(static_cast<uint32_t>(row.prompt.size()));
        out.set_tenant("tenant-" + std::to_string(random() % 8));
        sequence.sent = 1;
      } else {
        const size_t more = std::min<size_t>(1 + random() % 4, sequence.end - (sequence.sent - 1));
        for (size_t i = 0; i < more; ++i) {
          out.add_tokens(static_cast<uint32_t>(row.output[sequence.sent - 1 + i]));
        }
        sequence.sent += more;
        if (sequence.last_nodes > 0) {
          out.set_has_feedback(true);
          if (random() % 2 == 0) out.add_accepted_nodes(0);
        }
        v1::RowRanking& ranking = *out.add_rankings();
        ranking.set_token(static_cast<uint32_t>(row.output[sequence.sent - 2]));
        for (int k = 0; k < 8; ++k) {
          ranking.add_next_tokens(
              static_cast<uint32_t>((random() + static_cast<uint64_t>(k)) %
                                    static_cast<uint64_t>(traffic.flags.vocab_size)));
        }
      }
      out.set_node_budget(16);
      out.set_close(sequence.sent > sequence.end && !sequence.abandon);
    }
    if (!stream->Write(request) || !stream->Read(&response)) {
      traffic.cut += live.size();
      break;
    }
    std::vector<Sequence> left;
    for (size_t i = 0; i < live.size(); ++i) {
      Sequence& sequence = live[i];
      const v1::SequenceAnswer& answer = response.answers(static_cast<int>(i));
      if (answer.status() == v1::SEQUENCE_STATUS_UNKNOWN) {
        ++traffic.forgotten;
        continue;
      }
      if (answer.status() != v1::SEQUENCE_STATUS_OK) {
        ++traffic.refused;
        continue;
      }
      sequence.last_nodes = answer.tree().tokens_size();
      traffic.drafted += static_cast<uint64_t>(sequence.last_nodes);
      if (sequence.sent > sequence.end) {
        ++(sequence.abandon ? traffic.abandoned : traffic.closed);
      } else {
        left.push_back(sequence);
      }
    }
    live.swap(left);
    // One stream in eight breaks in the middle of its work.
    if (!lasting && random() % 2000 == 0) {
      traffic.cut += live.size();
      context.TryCancel();
      break;
    }
  }
  stream->WritesDone();
  stream->Finish();
}

v1::GetDraftInfoResponse Info(v1::DraftService::Stub& stub) {
  grpc::ClientContext context;
  v1::GetDraftInfoResponse info;
  const grpc::Status status = stub.GetDraftInfo(&context, v1::GetDraftInfoRequest(), &info);
  if (!status.ok()) Fail("GetDraftInfo: " + status.error_message());
  return info;
}

int Run(const Flags& flags) {
  const auto rows = replay::LoadRows(flags.replay, flags.vocab_size);
  if (!rows.ok()) Fail(std::string(rows.status().message()));
  const Service service(flags);
  const auto stub = v1::DraftService::NewStub(
      grpc::CreateChannel(service.address(), grpc::InsecureChannelCredentials()));
  Traffic traffic{.flags = flags, .rows = *rows, .stub = *stub};
  const auto start = Clock::now();
  std::vector<std::thread> threads;
  std::atomic<int> verifiers = 0;
  for (int t = 0; t < flags.streams; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(static_cast<uint64_t>(t));
      while (traffic.opened < flags.sequences) PlayStream(traffic, verifiers++, random, t == 0);
    });
  }
  nlohmann::ordered_json samples = nlohmann::ordered_json::array();
  double quarter = 0;
  for (const int percent : {10, 25, 50, 75, 100}) {
    const uint64_t until = flags.sequences * static_cast<uint64_t>(percent) / 100;
    while (traffic.opened < until) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    if (percent == 100) {
      for (std::thread& thread : threads) thread.join();
    }
    const v1::GetDraftInfoResponse info = Info(*stub);
    const double rss = service.rss_mib();
    if (percent == 25) quarter = rss;
    samples.push_back({{"percent", percent},
                       {"seconds", std::chrono::duration<double>(Clock::now() - start).count()},
                       {"rss_mib", rss},
                       {"live_sequences", info.live_sequences()},
                       {"model_tier_bytes", info.model_tier_bytes()}});
  }
  // Every stream is over: so must be every sequence, soon.
  uint64_t live = 0;
  for (int i = 0; i < 100; ++i) {
    live = Info(*stub).live_sequences();
    if (live == 0) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  const double last = service.rss_mib();
  const bool flat = last <= quarter * 1.05 + flags.allowed_growth_mib;
  nlohmann::ordered_json report = {{"sequences", traffic.opened.load()},
                                   {"streams", verifiers.load()},
                                   {"closed", traffic.closed.load()},
                                   {"abandoned", traffic.abandoned.load()},
                                   {"cut", traffic.cut.load()},
                                   {"forgotten", traffic.forgotten.load()},
                                   {"refused", traffic.refused.load()},
                                   {"drafted_nodes", traffic.drafted.load()},
                                   {"samples", samples},
                                   {"rss_mib_at_the_end", last},
                                   {"live_at_the_end", live},
                                   {"flat", flat}};
  std::printf("%s\n", report.dump(2).c_str());
  return flat && live == 0 ? 0 : 1;
}

}  // namespace
}  // namespace strata

int main(int argc, char** argv) {
  strata::Flags flags;
  CLI::App app("strata-draft-soak: a day of traffic through one draft service.");
  app.add_option("--service", flags.service, "The binary strata-draft")->required();
  app.add_option("--replay", flags.replay, "Recorded answers, as strata-replay reads them")
      ->required();
  app.add_option("--vocab-size", flags.vocab_size, "Of the recorded tokens")->capture_default_str();
  app.add_option("--sequences", flags.sequences, "In all")->capture_default_str();
  app.add_option("--streams", flags.streams, "At a time; the first lasts for the whole run")
      ->check(CLI::Range(2, 64))
      ->capture_default_str();
  app.add_option("--batch", flags.batch, "Sequences of a stream at a time")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--model-tier-bytes", flags.model_tier_bytes, "As the service takes it")
      ->capture_default_str();
  app.add_option("--idle-eviction", flags.idle_s, "As the service takes it")->capture_default_str();
  app.add_option("--allowed-growth-mib", flags.allowed_growth_mib,
                 "Growth of memory from a quarter of the run on, besides 5 %")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return strata::Run(flags);
}
