// strata-draft-soak: does a draft service keep its memory for a day? See --help and
// tests/bench/README.md.
//
// Prints JSON on standard output. Ends with 0; 1 if memory grew, sequences live on or anything
// failed, with a sentence on standard error; 2 for a wrong command line.

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
#include "tests/bench/draft/soak.h"
#include "tests/bench/draft/tool.h"

namespace strata::draft_bench {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kDaySeconds = 86400;
constexpr double kMib = 1 << 20;
constexpr size_t kShownSamples = 20;
// Hundredths of the sequences.
constexpr size_t kMarks[] = {10, 25, 50, 75, 100};

struct Flags {
  SoakOptions soak;
  std::string replay_file;
  std::string service = DefaultServiceBinary();
  std::vector<std::string> service_flags;
  double speedup = 144;
  double idle_s = 60;
  double save_s = 300;
  double tier_mb = 64;
};

void AddFlags(CLI::App& app, Flags& flags) {
  app.add_option("--replay", flags.replay_file, "Rows whose prompts and outputs are played")
      ->required();
  app.add_option("--service", flags.service, "The strata-draft that is started")
      ->capture_default_str();
  app.add_option("flags", flags.service_flags, "After --: more flags of the service");
  app.add_option("--vocab-size", flags.soak.text.vocab_size, "Of the rows' tokenizer")
      ->check(CLI::Range(16, 1 << 24))
      ->default_val(49152);
  app.add_option("--tokenizer-fingerprint", flags.soak.tokenizer_fingerprint,
                 "Of the verifiers; a service with a corpus wants its own")
      ->default_val(std::string(32, '0'));
  app.add_option("--sequences", flags.soak.sequences, "In all")
      ->check(CLI::Range(100, 100'000'000))
      ->capture_default_str();
  app.add_option("--speedup", flags.speedup,
                 "How many seconds of the simulated day pass in one; divides also the service's "
                 "times")
      ->check(CLI::Range(1.0, 86400.0))
      ->capture_default_str();
  app.add_option("--streams", flags.soak.streams, "Verifiers")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--batch", flags.soak.batch, "Sequences that a verifier has live at once")
      ->check(CLI::Range(1, 512))
      ->capture_default_str();
  app.add_option("--tenants", flags.soak.tenants, "Tenants that come and go in the day")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--budget", flags.soak.budget, "Most nodes of a draft tree")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--max-output", flags.soak.text.max_output, "Most output tokens of a sequence")
      ->check(CLI::Range(8, 4096))
      ->capture_default_str();
  app.add_option("--max-sequences", flags.soak.max_sequences,
                 "The service's limit of live sequences, at which idle ones give way")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--idle", flags.idle_s,
                 "Simulated seconds without a message after which a sequence may give way")
      ->capture_default_str();
  app.add_option("--save-interval", flags.save_s, "Simulated seconds between saves of model tiers")
      ->capture_default_str();
  app.add_option("--model-tier-mb", flags.tier_mb, "The service's memory for model tiers, in MiB")
      ->check(CLI::Range(1.0, 65536.0))
      ->capture_default_str();
  app.add_option("--seed", flags.soak.seed, "Of the traffic")->capture_default_str();
}

std::vector<std::string> ServiceFlags(const Flags& flags) {
  std::vector<std::string> words = {
      absl::StrCat("--model-tier-dir=", ServiceProcess::kFolder, "/tiers"),
      absl::StrCat("--model-tier-bytes=", static_cast<uint64_t>(flags.tier_mb * kMib)),
      absl::StrCat("--save-interval=", std::max(flags.save_s / flags.speedup, 0.1)),
      absl::StrCat("--max-sequences=", flags.soak.max_sequences),
      absl::StrCat("--idle-eviction=", absl::ToDoubleSeconds(flags.soak.idle)),
      "--log-level=warn"};
  words.insert(words.end(), flags.service_flags.begin(), flags.service_flags.end());
  return words;
}

Json ToJson(const SoakCounts& counts) {
  return {{"closed", counts.closed},
          {"abandoned", counts.abandoned},
          {"lost", counts.lost},
          {"rewound", counts.rewound},
          {"streams", counts.streams},
          {"cut_streams", counts.cut_streams},
          {"returned_streams", counts.returned_streams},
          {"messages", counts.messages},
          {"steps", counts.steps},
          {"drafted", counts.drafted},
          {"unknown", counts.unknown},
          {"exhausted", counts.exhausted}};
}

double Mib(uint64_t bytes) { return static_cast<double>(bytes) / kMib; }

Json ToJson(const SoakSample& sample) {
  return {{"seconds", sample.seconds},
          {"sequences", sample.sequences},
          {"rss_mib", Mib(sample.rss_bytes)},
          {"live_sequences", sample.live_sequences},
          {"model_tier_mib", Mib(sample.model_tier_bytes)}};
}

// The sample after so many hundredths of the sequences.
const SoakSample& At(const SoakResult& result, size_t percent) {
  return result.samples[result.samples.size() * percent / 100 - 1];
}

Json Report(const Flags& flags, const SoakResult& result) {
  Json json = {{"sequences", flags.soak.sequences},
               {"seconds", result.seconds},
               {"speedup", kDaySeconds / result.seconds},
               {"counts", ToJson(result.counts)}};
  for (const size_t percent : kMarks) {
    json["rss_mib"][absl::StrCat(percent, "%")] = Mib(At(result, percent).rss_bytes);
  }
  json["rss_mib"]["streams ended"] = Mib(result.rss_after_streams);
  json["live_at_end"] = result.live_at_end;
  json["live_after_eviction"] = result.live_after_eviction;
  json["live_after_streams"] = result.live_after_streams;
  json["samples"] = Json::array();
  for (size_t i = 1; i <= kShownSamples; ++i) {
    json["samples"].push_back(ToJson(At(result, 100 * i / kShownSamples)));
  }
  return json;
}

absl::Status Judge(const SoakResult& result) {
  if (absl::Status status = JudgeMemory(result.samples); !status.ok()) return status;
  if (result.live_after_eviction > 0 || result.live_after_streams > 0) {
    return absl::InternalError(absl::StrCat(result.live_after_eviction,
                                            " sequences live on after idle eviction, ",
                                            result.live_after_streams, " after the streams ended"));
  }
  return absl::OkStatus();
}

absl::Status Run(Flags flags) {
  flags.soak.duration = absl::Seconds(kDaySeconds / flags.speedup);
  flags.soak.idle = absl::Seconds(flags.idle_s / flags.speedup);
  auto rows = LoadTrafficRows(flags.replay_file, flags.soak.text.vocab_size);
  if (!rows.ok()) return rows.status();
  auto service = ServiceProcess::Start(flags.service, ServiceFlags(flags));
  if (!service.ok()) return service.status();
  auto result = Soak(flags.soak, *rows, **service);
  if (!result.ok()) return result.status();
  std::printf("%s\n", Report(flags, *result).dump(2).c_str());
  absl::Status status = Judge(*result);
  status.Update((*service)->Stop());
  return status;
}

}  // namespace
}  // namespace strata::draft_bench

int main(int argc, char** argv) {
  strata::draft_bench::Flags flags;
  CLI::App app(
      "strata-draft-soak: a day's traffic for a draft service of its own, in minutes, and what "
      "becomes of its memory.");
  strata::draft_bench::AddFlags(app, flags);
  return strata::draft_bench::RunTool("strata-draft-soak", app, argc, argv, [&flags] {
    return strata::draft_bench::Run(std::move(flags));
  });
}
