#include "services/client/report.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace strata::client {
namespace {

using Json = nlohmann::ordered_json;

// "TIER_CONTEXT" -> "context"; the number for a value this client does not know.
std::string Label(const std::string& name, const char* prefix, int value) {
  if (name.empty()) return absl::StrCat(value);
  return absl::AsciiStrToLower(absl::StripPrefix(name, prefix));
}

template <typename Repeated>
Json List(const Repeated& values) {
  Json list = Json::array();
  for (const auto& value : values) list.push_back(value);
  return list;
}

Json ToJson(const v1::TokenLogprob& logprob) {
  Json json = {{"id", logprob.id()}, {"logprob", logprob.logprob()}};
  if (logprob.top_size() > 0) {
    json["top"] = Json::array();
    for (const v1::TokenLogprob& top : logprob.top()) {
      json["top"].push_back({{"id", top.id()}, {"logprob", top.logprob()}});
    }
  }
  return json;
}

double TokensPerSecond(const v1::GenerationStatistics& statistics) {
  return Ratio(statistics.output_tokens(),
               statistics.total_seconds() - statistics.prefill_seconds());
}

}  // namespace

std::string TierLabel(v1::Tier tier) { return Label(v1::Tier_Name(tier), "TIER_", tier); }

std::string FinishLabel(v1::FinishReason reason) {
  return Label(v1::FinishReason_Name(reason), "FINISH_REASON_", reason);
}

double Ratio(double numerator, double denominator) {
  return denominator > 0 ? numerator / denominator : 0;
}

nlohmann::ordered_json ToJson(const v1::GenerationStatistics& statistics) {
  Json tiers = Json::array();
  for (const v1::TierCount& count : statistics.by_tier()) {
    tiers.push_back({{"tier", TierLabel(count.tier())},
                     {"drafted", count.drafted()},
                     {"accepted", count.accepted()}});
  }
  return {{"prompt_tokens", statistics.prompt_tokens()},
          {"cached_prompt_tokens", statistics.cached_prompt_tokens()},
          {"output_tokens", statistics.output_tokens()},
          {"steps", statistics.steps()},
          {"tokens_per_step", Ratio(statistics.output_tokens(), statistics.steps())},
          {"tokens_per_second", TokensPerSecond(statistics)},
          {"drafted", statistics.drafted()},
          {"accepted", statistics.accepted()},
          {"drafted_by_position", List(statistics.drafted_by_position())},
          {"accepted_by_position", List(statistics.accepted_by_position())},
          {"by_tier", tiers},
          {"prefill_seconds", statistics.prefill_seconds()},
          {"draft_seconds", statistics.draft_seconds()},
          {"verify_seconds", statistics.verify_seconds()},
          {"total_seconds", statistics.total_seconds()},
          {"draft_misses", statistics.draft_misses()},
          {"preemptions", statistics.preemptions()},
          {"seed", statistics.seed()}};
}

nlohmann::ordered_json ToJson(const Answer& answer) {
  Json json = {{"text", answer.text},
               {"token_ids", answer.token_ids},
               {"finish_reason", FinishLabel(answer.finish_reason)},
               {"retries", answer.retries},
               {"statistics", ToJson(answer.statistics)}};
  if (!answer.logprobs.empty()) {
    json["logprobs"] = Json::array();
    for (const v1::TokenLogprob& logprob : answer.logprobs) {
      json["logprobs"].push_back(ToJson(logprob));
    }
  }
  return json;
}

std::string ToTable(const v1::GenerationStatistics& statistics) {
  std::string table;
  absl::StrAppendFormat(&table, "prompt tokens   %d, %d of them from earlier requests\n",
                        statistics.prompt_tokens(), statistics.cached_prompt_tokens());
  absl::StrAppendFormat(&table, "tokens          %d in %d steps, %.2f a step, %.1f/s\n",
                        statistics.output_tokens(), statistics.steps(),
                        Ratio(statistics.output_tokens(), statistics.steps()),
                        TokensPerSecond(statistics));
  absl::StrAppendFormat(&table, "drafted         %d, accepted %d, missed deadlines %d\n",
                        statistics.drafted(), statistics.accepted(), statistics.draft_misses());
  for (const v1::TierCount& count : statistics.by_tier()) {
    absl::StrAppendFormat(&table, "  %-13s drafted %d, accepted %d (%.1f %% of the answer)\n",
                          TierLabel(count.tier()), count.drafted(), count.accepted(),
                          100 * Ratio(count.accepted(), statistics.output_tokens()));
  }
  absl::StrAppendFormat(&table, "seconds         %.3f: prefill %.3f, drafts %.3f, verify %.3f\n",
                        statistics.total_seconds(), statistics.prefill_seconds(),
                        statistics.draft_seconds(), statistics.verify_seconds());
  absl::StrAppendFormat(&table, "seed            %d\n", statistics.seed());
  return table;
}

std::string Dump(const nlohmann::ordered_json& json) {
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace strata::client
