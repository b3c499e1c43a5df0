// strata-draft-swap: what verifiers notice when a draft service's corpus changes, or is cold. See
// --help and tests/bench/README.md.
//
// Prints JSON on standard output. Ends with 0; 1 if an answer failed, messages were slow during
// swaps, an answer of a cold corpus came too late, or anything else went wrong, with a sentence on
// standard error; 2 for a wrong command line.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "tests/bench/draft/judge.h"
#include "tests/bench/draft/service_process.h"
#include "tests/bench/draft/swap.h"
#include "tests/bench/draft/tool.h"

namespace strata::draft_bench {
namespace {

using Json = nlohmann::ordered_json;

struct Flags {
  std::string replay_file;
  std::string corpus;
  std::string service = DefaultServiceBinary();
  std::vector<std::string> service_flags;
  AskOptions ask;
  double deadline_ms = 20;
  double tolerance_ms = 50;
  bool cold = false;
  SwapOptions swap;
  double calm_s = 5;
  double poll_s = 0.5;
  double slowdown = 2;
  ColdOptions cold_start;
  size_t block_cache_mb = 256;
};

void AddFlags(CLI::App& app, Flags& flags) {
  app.add_option("--replay", flags.replay_file, "Rows whose prompts and outputs are played")
      ->required();
  app.add_option("--corpus", flags.corpus, "Folder whose CURRENT names a snapshot")->required();
  CLI::Option* to = app.add_option("--to", flags.swap.to,
                                   "Name of another snapshot there, which CURRENT is to name");
  CLI::Option* cold = app.add_flag("--cold", flags.cold,
                                   "Measure the first drafts of services whose snapshot is not in "
                                   "the page cache, instead of swaps")
                          ->excludes(to);
  app.add_option("--service", flags.service, "The strata-draft that is started")
      ->capture_default_str();
  app.add_option("flags", flags.service_flags, "After --: more flags of the service");
  app.add_option("--vocab-size", flags.ask.text.vocab_size, "Of the rows' tokenizer")
      ->check(CLI::Range(16, 1 << 24))
      ->default_val(49152);
  app.add_option("--batch", flags.ask.batch, "Sequences live at once; a message is for all")
      ->check(CLI::Range(1, 512))
      ->capture_default_str();
  app.add_option("--budget", flags.ask.budget, "Most nodes of a draft tree")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--deadline-ms", flags.deadline_ms, "Time that a message gives the service")
      ->check(CLI::Range(0.1, 1e6))
      ->capture_default_str();
  app.add_option("--tolerance-ms", flags.tolerance_ms,
                 "With --cold: how much later than the deadline an answer may come")
      ->check(CLI::Range(0.0, 1e6))
      ->needs(cold)
      ->capture_default_str();
  app.add_option("--block-cache-mb", flags.block_cache_mb, "The service's, in MiB")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--rate", flags.swap.rate, "Messages a second")
      ->check(CLI::Range(1.0, 1e5))
      ->excludes(cold)
      ->capture_default_str();
  app.add_option("--swaps", flags.swap.swaps, "Switches of CURRENT; there and back are two")
      ->check(CLI::Range(1, 10000))
      ->excludes(cold)
      ->capture_default_str();
  app.add_option("--seconds", flags.calm_s,
                 "Measured before the first switch, when as long a warm-up is over, and after each")
      ->check(CLI::Range(0.1, 1e5))
      ->excludes(cold)
      ->capture_default_str();
  app.add_option("--corpus-poll", flags.poll_s, "The service's, in seconds")
      ->check(CLI::Range(0.01, 60.0))
      ->excludes(cold)
      ->capture_default_str();
  app.add_option("--slowdown", flags.slowdown,
                 "How many times as long the p99 of messages during switches may take as before")
      ->check(CLI::Range(1.0, 1e6))
      ->excludes(cold)
      ->capture_default_str();
  app.add_option("--rounds", flags.cold_start.rounds, "Services started one after another")
      ->check(CLI::Range(1, 10000))
      ->needs(cold)
      ->capture_default_str();
  app.add_option("--first", flags.cold_start.first, "Messages measured of each")
      ->check(CLI::Range(1, 1'000'000))
      ->needs(cold)
      ->capture_default_str();
  app.add_option("--seed", flags.ask.seed, "Of the traffic")->capture_default_str();
}

std::vector<std::string> ServiceFlags(const Flags& flags) {
  std::vector<std::string> words = {absl::StrCat("--corpus=", flags.corpus),
                                    absl::StrCat("--block-cache-mb=", flags.block_cache_mb),
                                    absl::StrCat("--corpus-poll=", flags.cold ? 0 : flags.poll_s)};
  words.insert(words.end(), flags.service_flags.begin(), flags.service_flags.end());
  return words;
}

Json ToJson(const replay::Samples& samples) {
  return {{"count", samples.count()},
          {"p50", samples.Percentile(50)},
          {"p99", samples.Percentile(99)},
          {"max", samples.Percentile(100)}};
}

Json ToJson(const Asked& asked) {
  return {{"message_us", ToJson(asked.us)},  {"over_deadline", asked.late},
          {"overdue", asked.overdue},        {"answers", asked.answers},
          {"failed", asked.failed},          {"empty", asked.empty},
          {"with_corpus", asked.with_corpus}};
}

absl::Status Judge(const Asked& asked) {
  if (asked.failed == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(asked.failed, " answers failed"));
}

absl::Status JudgeTimes(const Asked& asked, const AskOptions& ask) {
  if (asked.overdue == 0) return absl::OkStatus();
  return absl::DeadlineExceededError(
      absl::StrCat(asked.overdue, " messages were answered more than ",
                   absl::FormatDuration(ask.tolerance), " after the deadline"));
}

absl::Status RunCold(const Flags& flags, const std::vector<replay::Row>& rows) {
  ColdOptions options = flags.cold_start;
  options.ask = flags.ask;
  options.corpus = flags.corpus;
  options.service = flags.service;
  options.service_flags = ServiceFlags(flags);
  const auto result = Cold(options, rows);
  if (!result.ok()) return result.status();
  const Json json = {{"deadline_us", flags.deadline_ms * 1000},
                     {"tolerance_us", flags.tolerance_ms * 1000},
                     {"rounds", options.rounds},
                     {"snapshot_bytes", result->snapshot_bytes},
                     {"resident_bytes", result->resident_bytes},
                     {"start_ms", ToJson(result->start_ms)},
                     {"first", ToJson(result->first)},
                     {"next", ToJson(result->next)}};
  std::printf("%s\n", json.dump(2).c_str());
  Asked all = result->first;
  all.Add(result->next);
  absl::Status status = Judge(all);
  status.Update(JudgeTimes(all, options.ask));
  return status;
}

absl::Status RunSwap(const Flags& flags, const std::vector<replay::Row>& rows) {
  SwapOptions options = flags.swap;
  options.ask = flags.ask;
  options.corpus = flags.corpus;
  options.calm = absl::Seconds(flags.calm_s);
  auto service = ServiceProcess::Start(flags.service, ServiceFlags(flags));
  if (!service.ok()) return service.status();
  const auto result = Swap(options, rows, **service);
  if (!result.ok()) return result.status();
  const Json json = {{"deadline_us", flags.deadline_ms * 1000},
                     {"swap_ms", ToJson(result->swap_ms)},
                     {"before", ToJson(result->before)},
                     {"during", ToJson(result->during)},
                     {"after", ToJson(result->after)}};
  std::printf("%s\n", json.dump(2).c_str());
  absl::Status status = (*service)->Stop();
  Asked all = result->before;
  all.Add(result->during);
  all.Add(result->after);
  status.Update(Judge(all));
  status.Update(JudgeSwap(result->before.us, result->during.us, flags.slowdown));
  return status;
}

absl::Status Run(Flags flags) {
  flags.ask.deadline = absl::Milliseconds(flags.deadline_ms);
  flags.ask.tolerance = absl::Milliseconds(flags.tolerance_ms);
  if (!flags.cold && flags.swap.to.empty()) {
    return absl::InvalidArgumentError("--to or --cold must say what to measure");
  }
  const auto rows = LoadTrafficRows(flags.replay_file, flags.ask.text.vocab_size);
  if (!rows.ok()) return rows.status();
  return flags.cold ? RunCold(flags, *rows) : RunSwap(flags, *rows);
}

}  // namespace
}  // namespace strata::draft_bench

int main(int argc, char** argv) {
  strata::draft_bench::Flags flags;
  CLI::App app(
      "strata-draft-swap: message times of a draft service of its own while its corpus changes, or "
      "with a cold one.");
  strata::draft_bench::AddFlags(app, flags);
  return strata::draft_bench::RunTool("strata-draft-swap", app, argc, argv, [&flags] {
    return strata::draft_bench::Run(std::move(flags));
  });
}
