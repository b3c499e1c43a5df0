#include "tests/bench/replay/tree_recorder.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"

namespace strata::replay {

void TreeRecorder::Add(const Row& row, const DraftTree& tree, std::span<const int32_t> accepted) {
  const auto [it, is_new] = index_.try_emplace(&row, rows_.size());
  if (is_new) rows_.push_back({row.prompt.size(), {}});
  rows_[it->second].steps.push_back({tree.parents, {accepted.begin(), accepted.end()}});
}

absl::Status TreeRecorder::Write(const std::string& path) const {
  nlohmann::json rows = nlohmann::json::array();
  for (const Recorded& row : rows_) {
    nlohmann::json steps = nlohmann::json::array();
    for (const Step& step : row.steps) steps.push_back({step.parents, step.accepted});
    rows.push_back({{"prompt_tokens", row.prompt_tokens}, {"steps", std::move(steps)}});
  }
  std::ofstream file(path);
  file << nlohmann::json{{"rows", std::move(rows)}}.dump() << '\n';
  if (!file.flush()) return absl::UnavailableError(absl::StrCat("cannot write ", path));
  return absl::OkStatus();
}

}  // namespace strata::replay
