#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "services/client/call.h"
#include "services/client/commands.h"
#include "services/client/connection.h"
#include "services/client/exit_codes.h"
#include "services/client/prompts.h"
#include "services/client/report.h"
#include "services/client/request_flags.h"

namespace strata::client {
namespace {

using Json = nlohmann::ordered_json;

struct Flags {
  ConnectionFlags connection;
  RequestFlags request;
  std::string prompts;
  size_t limit = 0;
  bool chat = false;
  std::vector<uint32_t> draft_nodes;
  bool json = false;
};

// Figures of all answers of one kind.
struct Totals {
  // -1: plain, -2: the service's default, else the limit of draft nodes.
  int64_t draft_nodes = 0;
  uint64_t tokens = 0;
  uint64_t steps = 0;
  uint64_t drafted = 0;
  uint64_t accepted = 0;
  uint64_t misses = 0;
  double seconds = 0;  // after prefill
  std::map<std::string, uint64_t> accepted_by_tier;

  void Add(const v1::GenerationStatistics& statistics) {
    tokens += statistics.output_tokens();
    steps += statistics.steps();
    drafted += statistics.drafted();
    accepted += statistics.accepted();
    misses += statistics.draft_misses();
    seconds += statistics.total_seconds() - statistics.prefill_seconds();
    for (const v1::TierCount& count : statistics.by_tier()) {
      accepted_by_tier[TierLabel(count.tier())] += count.accepted();
    }
  }
};
constexpr int64_t kPlain = -1;
constexpr int64_t kServiceDefault = -2;

std::string RunName(int64_t draft_nodes) {
  if (draft_nodes == kPlain) return "plain";
  if (draft_nodes == kServiceDefault) return "drafted";
  return absl::StrCat("drafted, ", draft_nodes, " nodes");
}

Json ToJson(const Totals& totals) {
  Json shares = Json::object();
  for (const auto& [tier, accepted] : totals.accepted_by_tier) {
    shares[tier] = Ratio(static_cast<double>(accepted), static_cast<double>(totals.tokens));
  }
  Json json = {{"run", RunName(totals.draft_nodes)},
               {"tokens", totals.tokens},
               {"steps", totals.steps},
               {"tokens_per_step",
                Ratio(static_cast<double>(totals.tokens), static_cast<double>(totals.steps))},
               {"tokens_per_second", Ratio(static_cast<double>(totals.tokens), totals.seconds)},
               {"drafted", totals.drafted},
               {"accepted", totals.accepted},
               {"draft_misses", totals.misses},
               {"share_by_tier", shares}};
  if (totals.draft_nodes >= 0) json["draft_nodes"] = totals.draft_nodes;
  return json;
}

void PrintTotals(const Totals& totals) {
  std::printf("%-20s %8llu tokens %8llu steps %6.2f a step %8.1f tokens/s",
              RunName(totals.draft_nodes).c_str(), static_cast<unsigned long long>(totals.tokens),
              static_cast<unsigned long long>(totals.steps),
              Ratio(static_cast<double>(totals.tokens), static_cast<double>(totals.steps)),
              Ratio(static_cast<double>(totals.tokens), totals.seconds));
  for (const auto& [tier, accepted] : totals.accepted_by_tier) {
    std::printf("  %s %.1f %%", tier.c_str(),
                100 * Ratio(static_cast<double>(accepted), static_cast<double>(totals.tokens)));
  }
  std::printf("\n");
}

// What differs between two answers to prompt number `prompt`, or null.
Json Difference(size_t prompt, int64_t draft_nodes, const Answer& plain, const Answer& drafted) {
  const auto [a, b] = std::mismatch(plain.token_ids.begin(), plain.token_ids.end(),
                                    drafted.token_ids.begin(), drafted.token_ids.end());
  const bool tokens = a != plain.token_ids.end() || b != drafted.token_ids.end();
  if (!tokens && plain.text == drafted.text && plain.finish_reason == drafted.finish_reason) {
    return nullptr;
  }
  Json json = {{"prompt", prompt}, {"run", RunName(draft_nodes)}};
  if (tokens) {
    json["index"] = a - plain.token_ids.begin();
    json["plain_token"] = a == plain.token_ids.end() ? Json() : Json(*a);
    json["drafted_token"] = b == drafted.token_ids.end() ? Json() : Json(*b);
  }
  json["plain_tokens"] = plain.token_ids.size();
  json["drafted_tokens"] = drafted.token_ids.size();
  json["plain_finish"] = FinishLabel(plain.finish_reason);
  json["drafted_finish"] = FinishLabel(drafted.finish_reason);
  json["same_text"] = plain.text == drafted.text;
  return json;
}

v1::GenerateRequest MakeRequest(const Flags& flags, const BenchPrompt& prompt,
                                int64_t draft_nodes) {
  v1::GenerateRequest request;
  FillRequest(flags.request, request);
  if (flags.chat || prompt.chat) {
    SetChat("", prompt.text, *request.mutable_chat());
  } else {
    request.set_text(prompt.text);
  }
  v1::SpeculationParameters& speculation = *request.mutable_speculation();
  speculation.set_disabled(draft_nodes == kPlain);
  if (draft_nodes >= 0) speculation.set_max_nodes(static_cast<uint32_t>(draft_nodes));
  return request;
}

int Run(const Flags& flags, Interrupt& interrupt) {
  const auto prompts = ReadPrompts(flags.prompts, flags.limit);
  if (!prompts.ok()) return ReportError(prompts.status(), interrupt, kUsage);
  const auto stub = Connect(flags.connection);
  if (!stub.ok()) return ReportError(stub.status(), interrupt, kUsage);

  std::vector<int64_t> kinds = {kPlain};
  kinds.insert(kinds.end(), flags.draft_nodes.begin(), flags.draft_nodes.end());
  if (flags.draft_nodes.empty()) kinds.push_back(kServiceDefault);
  std::vector<Totals> runs(kinds.size());
  for (size_t i = 0; i < kinds.size(); ++i) runs[i].draft_nodes = kinds[i];

  Json differences = Json::array();
  for (size_t i = 0; i < prompts->size(); ++i) {
    Answer plain;
    for (Totals& totals : runs) {
      auto answer = Generate(**stub, MakeRequest(flags, (*prompts)[i], totals.draft_nodes),
                             flags.connection.timeout_s, interrupt, nullptr);
      if (!answer.ok()) {
        std::fprintf(stderr, "strata: prompt %zu, %s:\n", i, RunName(totals.draft_nodes).c_str());
        return ReportError(answer.status(), interrupt, kServiceError);
      }
      totals.Add(answer->statistics);
      if (totals.draft_nodes == kPlain) {
        plain = *std::move(answer);
        continue;
      }
      Json difference = Difference(i, totals.draft_nodes, plain, *answer);
      if (difference.is_null()) continue;
      // At once, not at the end of a long run.
      std::fprintf(stderr, "strata: difference: %s\n", difference.dump().c_str());
      differences.push_back(std::move(difference));
    }
  }

  const bool identical = differences.empty();
  if (flags.json) {
    Json json = {{"prompts", prompts->size()},
                 {"identical", identical},
                 {"differences", differences},
                 {"runs", Json::array()}};
    for (const Totals& totals : runs) json["runs"].push_back(ToJson(totals));
    std::printf("%s\n", Dump(json).c_str());
  } else {
    for (const Totals& totals : runs) PrintTotals(totals);
    std::printf("%zu prompts, %zu differences\n", prompts->size(), differences.size());
  }
  return identical ? kSuccess : kDifferent;
}

}  // namespace

Command AddBenchExactCommand(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand(
      "exact", "Answers each prompt plainly and with drafts, and compares token by token");
  const auto flags = std::make_shared<Flags>();
  flags->request.max_tokens = 128;
  // All runs of a prompt need the same one.
  flags->request.seed = 1;
  command
      ->add_option("--prompts", flags->prompts,
                   "A .jsonl file with `prompt` or Spec-Bench `turns`, or text, one a line")
      ->required();
  command->add_option("--limit", flags->limit, "Only the first N prompts; 0: all")
      ->capture_default_str();
  command->add_flag("--chat", flags->chat, "Send every prompt as a user's message");
  command
      ->add_option("--draft-nodes", flags->draft_nodes,
                   "Most draft nodes a step; a list runs each: 4,16,28")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(0, 1 << 20));
  command->add_flag("--json", flags->json, "Print one JSON object when done");
  AddRequestFlags(*command, flags->request);
  AddConnectionFlags(*command, flags->connection);
  return {command, [flags](Interrupt& interrupt) { return Run(*flags, interrupt); }};
}

}  // namespace strata::client
