#include "services/client/load/plan.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/shuffle.h"
#include "services/client/load/arrivals.h"

namespace strata::client::load {
namespace {

// Of the orders of prompts.
constexpr uint64_t kPromptSeed = 1;

// `parse` takes an item's text and returns a StatusOr<Item>.
template <typename Item, typename Parse>
absl::StatusOr<std::vector<Item>> ParseList(absl::string_view text, Parse parse) {
  std::vector<Item> items;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const absl::StatusOr<Item> item = parse(part);
    if (!item.ok()) return item.status();
    if (std::find(items.begin(), items.end(), *item) != items.end()) {
      return absl::InvalidArgumentError(absl::StrCat("'", part, "' is there twice"));
    }
    items.push_back(*item);
  }
  return items;
}

}  // namespace

std::string ModeName(Mode mode) {
  switch (mode) {
    case Mode::kOn:
      return "on";
    case Mode::kOff:
      return "off";
    case Mode::kFixed:
      return "fixed";
  }
  return "";
}

absl::StatusOr<std::vector<int>> ParseConcurrencies(absl::string_view text) {
  return ParseList<int>(text, [](absl::string_view part) -> absl::StatusOr<int> {
    int value = 0;
    if (!absl::SimpleAtoi(part, &value) || value < 1 || value > kMaxConcurrency) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", part, "' is not a whole number from 1 to ", kMaxConcurrency));
    }
    return value;
  });
}

absl::StatusOr<std::vector<double>> ParseRates(absl::string_view text) {
  return ParseList<double>(text, [](absl::string_view part) -> absl::StatusOr<double> {
    double value = 0;
    // Not a number compares false.
    if (!absl::SimpleAtod(part, &value) || !(value > 0 && value <= kMaxRate)) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", part, "' is not a number greater than 0 and at most ", kMaxRate));
    }
    return value;
  });
}

absl::StatusOr<std::vector<Mode>> ParseModes(absl::string_view text) {
  return ParseList<Mode>(text, [](absl::string_view part) -> absl::StatusOr<Mode> {
    for (const Mode mode : {Mode::kOn, Mode::kOff, Mode::kFixed}) {
      if (part == ModeName(mode)) return mode;
    }
    return absl::InvalidArgumentError(absl::StrCat("'", part, "' is not on, off or fixed"));
  });
}

std::vector<Mode> ModeOrder(const std::vector<Mode>& modes, size_t round) {
  std::vector<Mode> order = modes;
  if (!order.empty()) {
    std::rotate(order.begin(), order.begin() + static_cast<ptrdiff_t>(round % order.size()),
                order.end());
  }
  return order;
}

std::vector<size_t> PromptOrder(size_t prompts, size_t round) {
  std::vector<size_t> order(prompts);
  std::iota(order.begin(), order.end(), size_t{0});
  if (round == 0) return order;
  Shuffle(PartSeed(kPromptSeed, round), order);
  return order;
}

size_t DefaultRequests(double level) {
  return static_cast<size_t>(std::max(16.0, 4 * std::ceil(level)));
}

}  // namespace strata::client::load
