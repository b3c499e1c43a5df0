#include "services/client/load/summary.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace strata::client::load {
namespace {

double PerSecond(uint64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

std::optional<double> Ratio(double numerator, double denominator) {
  if (numerator <= 0 || denominator <= 0) return std::nullopt;
  return numerator / denominator;
}

// The values that are gathered one a request.
struct Values {
  std::vector<double> first_token;
  std::vector<double> latency;
  std::vector<double> per_token;
  std::vector<double> send_lag;
};

void AddAnswer(const Record& record, double loaded_seconds, Summary& summary, Values& values) {
  uint64_t tokens = 0;
  const std::vector<Chunk>& chunks = record.outcome.chunks;
  for (const Chunk& chunk : chunks) {
    tokens += chunk.tokens;
    if (chunk.at <= loaded_seconds) summary.loaded_tokens += chunk.tokens;
  }
  summary.tokens += tokens;
  if (!chunks.empty()) values.first_token.push_back(chunks.front().at - record.due);
  if (chunks.size() > 1) {
    values.per_token.push_back((chunks.back().at - chunks.front().at) /
                               static_cast<double>(tokens - 1));
  }
  values.latency.push_back(record.done - record.due);

  const v1::GenerationStatistics& statistics = record.outcome.statistics;
  summary.steps += statistics.steps();
  summary.drafted += statistics.drafted();
  summary.accepted += statistics.accepted();
  summary.draft_misses += statistics.draft_misses();
  summary.prefill_seconds += statistics.prefill_seconds();
  summary.draft_seconds += statistics.draft_seconds();
  summary.verify_seconds += statistics.verify_seconds();
  summary.total_seconds += statistics.total_seconds();
}

}  // namespace

double Summary::TokensPerSecond() const { return PerSecond(tokens, seconds); }
double Summary::LoadedTokensPerSecond() const { return PerSecond(loaded_tokens, loaded_seconds); }

Summary Summarize(std::span<const LoadRun> runs) {
  Summary summary;
  Values values;
  for (const LoadRun& run : runs) {
    summary.seconds += run.seconds;
    summary.loaded_seconds += run.loaded_seconds;
    for (const Record& record : run.records) {
      ++summary.requests;
      values.send_lag.push_back(record.sent - record.due);
      const absl::Status& status = record.outcome.status;
      if (status.ok()) {
        AddAnswer(record, run.loaded_seconds, summary, values);
        continue;
      }
      if (summary.failed == 0) summary.first_failure = status.ToString();
      ++summary.failed;
      ++summary.failures[absl::StatusCodeToString(status.code())];
    }
  }
  summary.first_token = Describe(std::move(values.first_token));
  summary.latency = Describe(std::move(values.latency));
  summary.per_token = Describe(std::move(values.per_token));
  summary.send_lag = Describe(std::move(values.send_lag));
  return summary;
}

Ratios Compare(const Summary& mode, const Summary& base) {
  return {
      .tokens_per_second = Ratio(mode.TokensPerSecond(), base.TokensPerSecond()),
      .loaded_tokens_per_second = Ratio(mode.LoadedTokensPerSecond(), base.LoadedTokensPerSecond()),
      .per_token_p95 = Ratio(mode.per_token.p95, base.per_token.p95)};
}

}  // namespace strata::client::load
