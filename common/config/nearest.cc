#include "common/config/nearest.h"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>

namespace strata::config {
namespace {

// A name this long is no misspelling; the bound keeps hostile ones cheap.
constexpr size_t kMostCompared = 200;

size_t EditDistance(std::string_view a, std::string_view b) {
  // One row of Levenshtein's table: the distance of the part of `a` so far from each prefix of b.
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string Nearest(std::string_view name, const std::vector<std::string>& known) {
  name = name.substr(0, kMostCompared);
  const auto nearest = std::ranges::min_element(
      known, {}, [&](const std::string& candidate) { return EditDistance(name, candidate); });
  return nearest == known.end() ? "" : *nearest;
}

}  // namespace strata::config
