#include "tests/bench/draft/judge.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"

namespace strata::draft_bench {
namespace {

constexpr double kMib = 1 << 20;
constexpr double kGrowthShare = 0.02;
constexpr double kGrowthBytes = 4 * kMib;

}  // namespace

absl::Status JudgeMemory(std::span<const SoakSample> samples) {
  const size_t tenth = samples.size() / 10;
  const auto least = [](std::span<const SoakSample> of) {
    return *std::min_element(of.begin(), of.end(), [](const SoakSample& a, const SoakSample& b) {
      return a.rss_bytes < b.rss_bytes;
    });
  };
  const SoakSample middle = least(samples.first(samples.size() / 2).last(tenth));
  const SoakSample end = least(samples.last(tenth));
  const auto before = static_cast<double>(middle.rss_bytes);
  const auto after = static_cast<double>(end.rss_bytes);
  const double tiers = std::max(
      static_cast<double>(end.model_tier_bytes) - static_cast<double>(middle.model_tier_bytes),
      0.0);
  if (after <= before * (1 + kGrowthShare) + kGrowthBytes + tiers) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("memory grew from ", before / kMib,
                                          " MiB in the middle to ", after / kMib,
                                          " MiB at the end; model tiers by ", tiers / kMib));
}

absl::Status JudgeSwap(const replay::Samples& before, const replay::Samples& during,
                       double factor) {
  const double allowed = before.Percentile(99) * factor;
  if (during.Percentile(99) <= allowed) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("p99 of messages during swaps is ", during.Percentile(99),
                                          " us, before ", before.Percentile(99), " us: more than ",
                                          factor, " times as long"));
}

}  // namespace strata::draft_bench
