#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/atomic_file.h"
#include "common/rpc/status.h"
#include "services/client/call.h"
#include "services/client/commands.h"
#include "services/client/connection.h"
#include "services/client/exit_codes.h"
#include "services/client/load/arrivals.h"
#include "services/client/load/load_report.h"
#include "services/client/load/loops.h"
#include "services/client/load/plan.h"
#include "services/client/load/summary.h"
#include "services/client/prompts.h"
#include "services/client/report.h"
#include "services/client/request_flags.h"

namespace strata::client {
namespace {

using Json = nlohmann::ordered_json;
using load::Mode;

// Each is kept until the end of its level, with the time of each of its chunks.
constexpr double kMaxRequests = 1e6;

struct Flags {
  ConnectionFlags connection;
  RequestFlags request;
  std::string prompts;
  size_t limit = 0;
  bool chat = false;
  std::string concurrency = "1,2,4,8,16,32";
  // Empty: a closed loop.
  std::string rates;
  std::string modes = "on,off,fixed";
  uint32_t fixed_nodes = 8;
  // 0: DefaultRequests, unless `seconds` is set.
  size_t requests = 0;
  double seconds = 0;
  size_t rounds = 1;
  size_t warmup = 1;
  uint64_t arrival_seed = 1;
  bool json = false;
  std::string out;
};

// What the flags ask for, checked.
struct Plan {
  bool open = false;
  std::vector<double> levels;
  std::vector<Mode> modes;
};

absl::Status Named(const char* flag, const absl::Status& status) {
  return absl::InvalidArgumentError(absl::StrCat(flag, ": ", status.message()));
}

load::Extent ExtentOf(const Flags& flags, double level) {
  if (flags.seconds > 0) return {.seconds = flags.seconds};
  return {.requests = flags.requests > 0 ? flags.requests : load::DefaultRequests(level)};
}

absl::StatusOr<Plan> MakePlan(const Flags& flags) {
  Plan plan;
  auto modes = load::ParseModes(flags.modes);
  if (!modes.ok()) return Named("--modes", modes.status());
  plan.modes = *std::move(modes);
  plan.open = !flags.rates.empty();
  if (plan.open) {
    auto rates = load::ParseRates(flags.rates);
    if (!rates.ok()) return Named("--rate", rates.status());
    plan.levels = *std::move(rates);
    for (const double rate : plan.levels) {
      if (rate * flags.seconds <= kMaxRequests) continue;
      return absl::InvalidArgumentError(absl::StrCat("--rate: ", rate, " a second for ",
                                                     flags.seconds, " seconds are more than ",
                                                     kMaxRequests, " requests"));
    }
    return plan;
  }
  const auto concurrencies = load::ParseConcurrencies(flags.concurrency);
  if (!concurrencies.ok()) return Named("--concurrency", concurrencies.status());
  for (const int concurrency : *concurrencies) {
    if (flags.requests > 0 && flags.requests < static_cast<size_t>(concurrency)) {
      return absl::InvalidArgumentError(absl::StrCat("--requests: ", flags.requests,
                                                     " requests never are ", concurrency,
                                                     " at a time (--concurrency)"));
    }
    plan.levels.push_back(concurrency);
  }
  return plan;
}

// A run's tenant: unless one is asked for, each has its own, so that no run drafts from answers
// that another one taught the model tier.
std::string TenantOf(const Flags& flags, int64_t session, size_t run) {
  if (!flags.request.tenant.empty()) return flags.request.tenant;
  return absl::StrCat("bench-load-", session, "-", run);
}

v1::GenerateRequest MakeRequest(const Flags& flags, const BenchPrompt& prompt, Mode mode,
                                const std::string& tenant) {
  v1::GenerateRequest request;
  FillRequest(flags.request, request);
  request.set_tenant(tenant);
  if (flags.chat || prompt.chat) {
    SetChat("", prompt.text, *request.mutable_chat());
  } else {
    request.set_text(prompt.text);
  }
  v1::SpeculationParameters& speculation = *request.mutable_speculation();
  speculation.set_disabled(mode == Mode::kOff);
  if (mode == Mode::kFixed) speculation.set_max_nodes(flags.fixed_nodes);
  return request;
}

absl::StatusOr<v1::GetModelInfoResponse> GetInfo(v1::GenerateService::Stub& stub, double timeout_s,
                                                 Interrupt& interrupt) {
  grpc::ClientContext context;
  SetTimeout(timeout_s, context);
  const Interrupt::Scope scope(interrupt, context);
  v1::GetModelInfoResponse info;
  const absl::Status status =
      rpc::FromGrpcStatus(stub.GetModelInfo(&context, v1::GetModelInfoRequest(), &info));
  if (!status.ok()) return status;
  return info;
}

// Runs all levels, and prints each one's table as soon as it is done.
class LoadBench {
 public:
  LoadBench(const Flags& flags, const Plan& plan, const std::vector<BenchPrompt>& prompts,
            v1::GenerateService::Stub& stub, Interrupt& interrupt)
      : flags_(flags),
        plan_(plan),
        prompts_(prompts),
        stub_(stub),
        interrupt_(interrupt),
        session_(absl::ToUnixMicros(absl::Now())) {}

  // Answers some prompts in each mode, so that no level pays for what a service does once.
  absl::Status WarmUp() {
    for (const Mode mode : plan_.modes) {
      const std::string tenant = TenantOf(flags_, session_, next_run_++);
      for (size_t i = 0; i < flags_.warmup; ++i) {
        const auto answer =
            Generate(stub_, MakeRequest(flags_, prompts_[i % prompts_.size()], mode, tenant),
                     flags_.connection.timeout_s, interrupt_, nullptr);
        if (!answer.ok()) return answer.status();
      }
    }
    return absl::OkStatus();
  }

  // Ends early if it is interrupted.
  void RunLevels() {
    for (size_t i = 0; i < plan_.levels.size(); ++i) {
      const load::LevelResult level = RunLevel(i);
      if (interrupt_.interrupted()) return;
      levels_.push_back(load::ToJson(level));
      if (flags_.json) continue;
      std::printf("%s\n", load::ToTable(level).c_str());
      std::fflush(stdout);
    }
  }

  size_t requests() const { return requests_; }
  size_t failed() const { return failed_; }

  Json ToJson(const v1::GetModelInfoResponse& info) const {
    Json modes = Json::array();
    for (const Mode mode : plan_.modes) modes.push_back(load::ModeName(mode));
    Json json = {{"loop", plan_.open ? "open" : "closed"},
                 {"modes", modes},
                 {"fixed_nodes", flags_.fixed_nodes},
                 {"rounds", flags_.rounds},
                 {"prompts", prompts_.size()},
                 {"max_tokens", flags_.request.max_tokens},
                 {"temperature", flags_.request.temperature},
                 {"tenant", flags_.request.tenant.empty() ? Json() : Json(flags_.request.tenant)},
                 {"service",
                  {{"model_id", info.model_id()},
                   {"dtype", info.dtype()},
                   {"device", info.device()},
                   {"max_batch", info.max_batch()},
                   {"draft_mode", info.draft_mode()},
                   {"version", info.version()}}},
                 {"requests", requests_},
                 {"failed", failed_},
                 {"levels", levels_}};
    if (plan_.open) json["arrival_seed"] = flags_.arrival_seed;
    return json;
  }

 private:
  load::LevelResult RunLevel(size_t number) {
    load::LevelResult result;
    result.unit = plan_.open ? "rate" : "concurrency";
    result.level = plan_.levels[number];
    for (const Mode mode : plan_.modes) result.modes.push_back({mode, {}});
    for (size_t round = 0; round < flags_.rounds; ++round) {
      // All modes of a round see the same arrivals, and prompts in the same order.
      const uint64_t seed = load::PartSeed(load::PartSeed(flags_.arrival_seed, number), round);
      const std::vector<size_t> order = load::PromptOrder(prompts_.size(), round);
      for (const Mode mode : load::ModeOrder(plan_.modes, round)) {
        load::LoadRun run = RunOnce(result.level, mode, seed, order);
        if (interrupt_.interrupted()) return result;
        Count(result, mode, run);
        const auto of = std::find_if(result.modes.begin(), result.modes.end(),
                                     [&](const auto& each) { return each.mode == mode; });
        of->rounds.push_back(std::move(run));
      }
    }
    return result;
  }

  load::LoadRun RunOnce(double level, Mode mode, uint64_t seed, std::span<const size_t> order) {
    const std::string tenant = TenantOf(flags_, session_, next_run_++);
    const load::Send send = [&](size_t index, load::Start start) {
      load::Outcome outcome;
      const auto on_message = [&](const v1::GenerateResponse& message) {
        if (message.token_ids_size() > 0) {
          outcome.chunks.push_back(
              {load::SecondsSince(start), static_cast<uint32_t>(message.token_ids_size())});
        }
        return true;
      };
      const BenchPrompt& prompt = prompts_[order[index % order.size()]];
      auto answer = Generate(stub_, MakeRequest(flags_, prompt, mode, tenant),
                             flags_.connection.timeout_s, interrupt_, on_message);
      outcome.status = answer.status();
      if (answer.ok()) outcome.statistics = std::move(answer->statistics);
      return outcome;
    };
    const load::Stopped stopped = [&] { return interrupt_.interrupted(); };
    const load::Extent extent = ExtentOf(flags_, level);
    if (plan_.open) {
      return load::RunOpenLoop(load::MakeArrivals(level, extent, seed), send, stopped);
    }
    return load::RunClosedLoop(static_cast<int>(level), extent, send, stopped);
  }

  void Count(const load::LevelResult& result, Mode mode, const load::LoadRun& run) {
    const load::Summary summary = load::Summarize(std::span(&run, 1));
    requests_ += summary.requests;
    failed_ += summary.failed;
    if (summary.failed == 0) return;
    // At once, not at the end of a long run.
    std::fprintf(stderr, "strata: %s %g, %s: %zu of %zu requests failed, the first with %s\n",
                 result.unit.c_str(), result.level, load::ModeName(mode).c_str(), summary.failed,
                 summary.requests, summary.first_failure.c_str());
  }

  const Flags& flags_;
  const Plan& plan_;
  const std::vector<BenchPrompt>& prompts_;
  v1::GenerateService::Stub& stub_;
  Interrupt& interrupt_;
  // Tells this process' tenants from another's.
  const int64_t session_;
  size_t next_run_ = 0;
  size_t requests_ = 0;
  size_t failed_ = 0;
  Json levels_ = Json::array();
};

int Run(const Flags& flags, Interrupt& interrupt) {
  const auto plan = MakePlan(flags);
  if (!plan.ok()) return ReportError(plan.status(), interrupt, kUsage);
  const auto prompts = ReadPrompts(flags.prompts, flags.limit);
  if (!prompts.ok()) return ReportError(prompts.status(), interrupt, kUsage);
  const auto stub = Connect(flags.connection);
  if (!stub.ok()) return ReportError(stub.status(), interrupt, kUsage);
  const auto info = GetInfo(**stub, flags.connection.timeout_s, interrupt);
  if (!info.ok()) return ReportError(info.status(), interrupt, kServiceError);

  LoadBench bench(flags, *plan, *prompts, **stub, interrupt);
  if (const absl::Status status = bench.WarmUp(); !status.ok()) {
    return ReportError(status, interrupt, kServiceError);
  }
  bench.RunLevels();
  if (interrupt.interrupted()) {
    return ReportError(absl::CancelledError("interrupted"), interrupt, kInterrupted);
  }
  const std::string json = absl::StrCat(Dump(bench.ToJson(*info)), "\n");
  if (flags.json) std::fputs(json.c_str(), stdout);
  if (!flags.out.empty()) {
    const absl::Status status = WriteFileAtomically(flags.out, json);
    if (!status.ok()) return ReportError(status, interrupt, kUsage);
  }
  return bench.failed() == 0 ? kSuccess : kServiceError;
}

}  // namespace

Command AddBenchLoadCommand(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand(
      "load", "Sends many requests at a time and measures throughput and latencies");
  const auto flags = std::make_shared<Flags>();
  flags->request.max_tokens = 128;
  // The modes are compared on the same answers.
  flags->request.seed = 1;
  command
      ->add_option(
          "--prompts", flags->prompts,
          "A .jsonl file with `prompt` or Spec-Bench `turns`, or text, one a line; each run "
          "starts over after the last")
      ->required();
  command->add_option("--limit", flags->limit, "Only the first N prompts; 0: all")
      ->capture_default_str();
  command->add_flag("--chat", flags->chat, "Send every prompt as a user's message");
  CLI::Option* concurrency =
      command
          ->add_option("--concurrency", flags->concurrency,
                       "Closed loop: this many requests at a time, the next when one is done; a "
                       "list runs each")
          ->capture_default_str();
  CLI::Option* rate =
      command
          ->add_option("--rate", flags->rates,
                       "Open loop: this many requests a second on average, at random times, "
                       "whether or not the service keeps up; a list runs each")
          ->excludes(concurrency);
  command
      ->add_option("--modes", flags->modes,
                   "on: drafts as the service does by default; off: plain; fixed: at most "
                   "--fixed-nodes")
      ->capture_default_str();
  command->add_option("--fixed-nodes", flags->fixed_nodes, "Most draft nodes a step in mode fixed")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  CLI::Option* requests =
      command
          ->add_option("--requests", flags->requests,
                       "Requests of a run (default: 4 times the level, at least 16)")
          ->check(CLI::Range(1.0, kMaxRequests));
  command
      ->add_option("--seconds", flags->seconds,
                   "Begin requests for this long instead; those under way are answered")
      ->check(CLI::Range(0.1, 1e5))
      ->excludes(requests);
  command
      ->add_option(
          "--rounds", flags->rounds,
          "Times that each level runs all modes, each time beginning with another, and after "
          "the first with the prompts in another order")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command
      ->add_option("--warmup", flags->warmup, "Requests in each mode before all that is measured")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str();
  command->add_option("--arrival-seed", flags->arrival_seed, "Same seed, same arrivals")
      ->needs(rate)
      ->capture_default_str();
  command->add_flag("--json", flags->json, "Print one JSON object when done");
  command->add_option("--out", flags->out, "Write that object to this file");
  AddRequestFlags(*command, flags->request);
  AddConnectionFlags(*command, flags->connection);
  return {command, [flags](Interrupt& interrupt) { return Run(*flags, interrupt); }};
}

}  // namespace strata::client
