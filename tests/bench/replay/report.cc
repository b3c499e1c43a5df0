#include "tests/bench/replay/report.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"

namespace strata::replay {
namespace {

using Json = nlohmann::ordered_json;

double Percent(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

void AppendTally(const std::string& name, const Tally& tally, std::string& out) {
  absl::StrAppendFormat(&out, "%-20s %6d %8d %8d %8.3f %8.1f\n", name, tally.rows, tally.steps,
                        tally.emitted, tally.TokensPerStep(), tally.DraftedPerStep());
}

void AppendTimes(const char* name, const Samples& samples, std::string& out) {
  if (samples.count() == 0) return;
  absl::StrAppendFormat(&out, "%-36s %8d %8.1f %8.1f %8.1f\n", name, samples.count(),
                        samples.Mean(), samples.Percentile(50), samples.Percentile(99));
}

Json ToJson(const Tally& tally) {
  return {{"rows", tally.rows},
          {"steps", tally.steps},
          {"emitted", tally.emitted},
          {"drafted", tally.drafted},
          {"tokens_per_step", tally.TokensPerStep()},
          {"drafted_per_step", tally.DraftedPerStep()}};
}

Json ToJson(const Samples& samples) {
  return {{"count", samples.count()},
          {"mean", samples.Mean()},
          {"p50", samples.Percentile(50)},
          {"p99", samples.Percentile(99)}};
}

}  // namespace

std::string TextReport(const Statistics& statistics) {
  std::string out;
  absl::StrAppendFormat(&out, "%-20s %6s %8s %8s %8s %8s\n", "", "rows", "steps", "tokens",
                        "tok/step", "drafted");
  AppendTally("all", statistics.total, out);
  for (const auto& [name, tally] : statistics.categories) AppendTally(name, tally, out);
  if (statistics.skipped_rows > 0) {
    absl::StrAppendFormat(&out, "(%d rows of few tokens are left out)\n", statistics.skipped_rows);
  }

  absl::StrAppendFormat(&out, "\n%-20s %8s %8s %7s\n", "tier", "drafted", "accepted", "");
  for (int i = 1; i < kTierKinds; ++i) {
    if (statistics.drafted_by_tier[i] == 0) continue;
    absl::StrAppendFormat(&out, "%-20s %8d %8d %6.1f%%\n", TierName(static_cast<TierKind>(i)),
                          statistics.drafted_by_tier[i], statistics.accepted_by_tier[i],
                          Percent(statistics.accepted_by_tier[i], statistics.drafted_by_tier[i]));
  }

  absl::StrAppendFormat(&out, "\naccepted at position, %% of steps:");
  for (const uint64_t count : statistics.accepted_by_position) {
    absl::StrAppendFormat(&out, " %.1f", Percent(count, statistics.total.steps));
  }
  absl::StrAppendFormat(&out, "\n\n%-36s %8s %8s %8s %8s\n", "microseconds a message", "messages",
                        "mean", "p50", "p99");
  AppendTimes("draft", statistics.draft_us, out);
  AppendTimes("draft, no sequence begins or ends", statistics.steady_draft_us, out);
  AppendTimes("learning, after the answer", statistics.learn_us, out);
  AppendTimes("service's own time", statistics.service_us, out);
  AppendTimes("RPC (round trip less service)", statistics.rpc_us, out);
  return out;
}

std::string JsonReport(const Statistics& statistics) {
  Json json = ToJson(statistics.total);
  json["skipped_rows"] = statistics.skipped_rows;
  json["categories"] = Json::object();
  for (const auto& [name, tally] : statistics.categories) json["categories"][name] = ToJson(tally);
  json["tiers"] = Json::object();
  for (int i = 1; i < kTierKinds; ++i) {
    json["tiers"][TierName(static_cast<TierKind>(i))] = {
        {"drafted", statistics.drafted_by_tier[i]}, {"accepted", statistics.accepted_by_tier[i]}};
  }
  json["accepted_by_position"] = statistics.accepted_by_position;
  json["draft_us"] = ToJson(statistics.draft_us);
  json["steady_draft_us"] = ToJson(statistics.steady_draft_us);
  if (statistics.learn_us.count() > 0) json["learn_us"] = ToJson(statistics.learn_us);
  if (statistics.rpc_us.count() > 0) {
    json["service_us"] = ToJson(statistics.service_us);
    json["rpc_us"] = ToJson(statistics.rpc_us);
  }
  // A category's name may be any bytes.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace strata::replay
