#include "tests/bench/replay/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace strata::replay {
namespace {

double Ratio(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

// Calls `update` for all tallies that a category counts in.
template <typename Update>
void ForTallies(Statistics& statistics, const std::string& category, Update update) {
  update(statistics.total);
  update(statistics.categories[category]);
  if (IsMtBench(category)) update(statistics.categories[kMtBench]);
}

}  // namespace

double Tally::TokensPerStep() const { return Ratio(emitted, steps); }
double Tally::DraftedPerStep() const { return Ratio(drafted, steps); }

double Samples::Percentile(double percent) const {
  if (values_.empty()) return 0;
  const double rank = std::ceil(percent / 100 * static_cast<double>(values_.size()));
  const size_t index = static_cast<size_t>(std::max(rank, 1.0)) - 1;
  std::vector<double> values = values_;
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(index), values.end());
  return values[index];
}

double Samples::Mean() const {
  if (values_.empty()) return 0;
  return std::accumulate(values_.begin(), values_.end(), 0.0) / static_cast<double>(values_.size());
}

void Statistics::AddRow(const std::string& category) {
  ForTallies(*this, category, [](Tally& tally) { ++tally.rows; });
}

void Statistics::AddStep(const std::string& category, const DraftTree& tree,
                         std::span<const int32_t> accepted, size_t emitted) {
  ForTallies(*this, category, [&](Tally& tally) {
    ++tally.steps;
    tally.emitted += emitted;
    tally.drafted += static_cast<uint64_t>(tree.size());
  });
  for (const TierKind tier : tree.tiers) ++drafted_by_tier[static_cast<size_t>(tier)];
  if (accepted_by_position.size() < accepted.size()) accepted_by_position.resize(accepted.size());
  for (size_t k = 0; k < accepted.size(); ++k) {
    ++accepted_by_tier[static_cast<size_t>(tree.tiers[static_cast<size_t>(accepted[k])])];
    ++accepted_by_position[k];
  }
}

bool IsMtBench(const std::string& category) {
  static constexpr const char* kCategories[] = {"writing", "roleplay",   "reasoning", "math",
                                                "coding",  "extraction", "stem",      "humanities"};
  return std::find(std::begin(kCategories), std::end(kCategories), category) !=
         std::end(kCategories);
}

}  // namespace strata::replay
