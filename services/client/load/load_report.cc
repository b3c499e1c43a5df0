#include "services/client/load/load_report.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/client/report.h"

namespace strata::client::load {
namespace {

using Json = nlohmann::ordered_json;

Json OrNull(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

// Null if the denominator is 0.
Json RatioOrNull(double numerator, double denominator) {
  return denominator > 0 ? Json(numerator / denominator) : Json();
}

Json ToJson(const Distribution& values) {
  const auto figure = [&](double value) { return values.count > 0 ? Json(value) : Json(); };
  return {{"count", values.count},     {"mean", figure(values.mean)}, {"p50", figure(values.p50)},
          {"p95", figure(values.p95)}, {"p99", figure(values.p99)},   {"max", figure(values.max)}};
}

// What neither prefill, drafts nor verification took: waiting for room, mostly.
double OtherSeconds(const Summary& summary) {
  return std::max(0.0, summary.total_seconds - summary.prefill_seconds - summary.draft_seconds -
                           summary.verify_seconds);
}

Json ToJson(const Summary& summary) {
  Json failures = Json::object();
  for (const auto& [name, count] : summary.failures) failures[name] = count;
  const auto steps = static_cast<double>(summary.steps);
  return {{"requests", summary.requests},
          {"succeeded", summary.requests - summary.failed},
          {"failed", summary.failed},
          {"failures", failures},
          {"seconds", summary.seconds},
          {"loaded_seconds", summary.loaded_seconds},
          {"tokens", summary.tokens},
          {"tokens_per_second", summary.TokensPerSecond()},
          {"loaded_tokens_per_second", summary.LoadedTokensPerSecond()},
          {"first_token_s", ToJson(summary.first_token)},
          {"per_token_s", ToJson(summary.per_token)},
          {"latency_s", ToJson(summary.latency)},
          {"send_lag_s", ToJson(summary.send_lag)},
          {"steps", summary.steps},
          {"tokens_per_step", RatioOrNull(static_cast<double>(summary.tokens), steps)},
          {"drafted", summary.drafted},
          {"accepted", summary.accepted},
          {"draft_misses", summary.draft_misses},
          {"service_seconds",
           {{"prefill", summary.prefill_seconds},
            {"draft", summary.draft_seconds},
            {"verify", summary.verify_seconds},
            {"other", OtherSeconds(summary)},
            {"total", summary.total_seconds}}},
          {"step_seconds",
           {{"draft", RatioOrNull(summary.draft_seconds, steps)},
            {"verify", RatioOrNull(summary.verify_seconds, steps)}}}};
}

Json ToJson(const Ratios& ratios) {
  return {{"tokens_per_second", OrNull(ratios.tokens_per_second)},
          {"loaded_tokens_per_second", OrNull(ratios.loaded_tokens_per_second)},
          {"per_token_p95", OrNull(ratios.per_token_p95)}};
}

const LevelResult::OfMode* FindOff(const LevelResult& result) {
  for (const LevelResult::OfMode& of : result.modes) {
    if (of.mode == Mode::kOff) return &of;
  }
  return nullptr;
}

// "0.21/0.30/0.41", or "-" if nothing was measured.
std::string Percentiles(const Distribution& values, double scale, int digits) {
  if (values.count == 0) return "-";
  return absl::StrFormat("%.*f/%.*f/%.*f", digits, scale * values.p50, digits, scale * values.p95,
                         digits, scale * values.p99);
}

std::string Times(const std::optional<double>& ratio) {
  return ratio ? absl::StrFormat("%.2f", *ratio) : "-";
}

}  // namespace

nlohmann::ordered_json ToJson(const LevelResult& result) {
  // A whole number reads as one.
  const bool whole = std::floor(result.level) == result.level;
  const Json level = whole ? Json(static_cast<int64_t>(result.level)) : Json(result.level);
  Json json = {{result.unit, level}, {"modes", Json::array()}, {"ratios", Json::array()}};
  const LevelResult::OfMode* off = FindOff(result);
  for (const LevelResult::OfMode& of : result.modes) {
    Json mode = {{"mode", ModeName(of.mode)}};
    mode.update(ToJson(Summarize(of.rounds)));
    mode["rounds"] = Json::array();
    for (const LoadRun& run : of.rounds) {
      const Summary summary = Summarize(std::span(&run, 1));
      mode["rounds"].push_back({{"requests", summary.requests},
                                {"failed", summary.failed},
                                {"tokens_per_second", summary.TokensPerSecond()},
                                {"loaded_tokens_per_second", summary.LoadedTokensPerSecond()},
                                {"per_token_s", ToJson(summary.per_token)}});
    }
    json["modes"].push_back(std::move(mode));
    if (off == nullptr || &of == off) continue;
    Json ratio = {{"mode", ModeName(of.mode)}, {"over", ModeName(off->mode)}};
    ratio.update(ToJson(Compare(Summarize(of.rounds), Summarize(off->rounds))));
    // The modes of a round ran side by side: how far these are apart is noise.
    ratio["rounds"] = Json::array();
    for (size_t i = 0; i < of.rounds.size(); ++i) {
      ratio["rounds"].push_back(ToJson(Compare(Summarize(std::span(&of.rounds[i], 1)),
                                               Summarize(std::span(&off->rounds[i], 1)))));
    }
    json["ratios"].push_back(std::move(ratio));
  }
  return json;
}

std::string ToTable(const LevelResult& result) {
  std::string table = absl::StrFormat("%s %g\n", result.unit, result.level);
  absl::StrAppendFormat(&table, "%-9s %8s %6s %9s %9s %20s %20s %7s %6s  %s\n", "", "requests",
                        "failed", "tokens/s", "(loaded)", "first token s", "ms a token", "a step",
                        "misses", "prefill, drafts, verify, other");
  std::string ratios;
  std::string failures;
  const LevelResult::OfMode* off = FindOff(result);
  for (const LevelResult::OfMode& of : result.modes) {
    const std::string name = ModeName(of.mode);
    const Summary summary = Summarize(of.rounds);
    const auto percent = [&](double seconds) {
      return 100 * Ratio(seconds, summary.total_seconds);
    };
    absl::StrAppendFormat(
        &table, "%-9s %8d %6d %9.1f %9.1f %20s %20s %7.2f %6d  %.0f, %.0f, %.0f, %.0f %%\n", name,
        summary.requests, summary.failed, summary.TokensPerSecond(),
        summary.LoadedTokensPerSecond(), Percentiles(summary.first_token, 1, 2),
        Percentiles(summary.per_token, 1e3, 1),
        Ratio(static_cast<double>(summary.tokens), static_cast<double>(summary.steps)),
        summary.draft_misses, percent(summary.prefill_seconds), percent(summary.draft_seconds),
        percent(summary.verify_seconds), percent(OtherSeconds(summary)));
    for (const auto& [status, count] : summary.failures) {
      absl::StrAppendFormat(&failures, "  %s: %d of %d failed: %s\n", name, count, summary.requests,
                            status);
    }
    if (off == nullptr || &of == off) continue;
    const Ratios over = Compare(summary, Summarize(off->rounds));
    absl::StrAppendFormat(&ratios, "%-9s tokens/s %s (loaded %s), p95 time a token %s\n",
                          absl::StrCat(name, "/off"), Times(over.tokens_per_second),
                          Times(over.loaded_tokens_per_second), Times(over.per_token_p95));
  }
  return absl::StrCat(table, ratios, failures);
}

}  // namespace strata::client::load
