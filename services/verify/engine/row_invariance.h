#ifndef STRATA_SERVICES_VERIFY_ENGINE_ROW_INVARIANCE_H_
#define STRATA_SERVICES_VERIFY_ENGINE_ROW_INVARIANCE_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace strata::engine {

// Finds out by linear.CheckRowInvariance(), once a shape (layers of one shape run the same kernel),
// which linear layers lack row invariance, and calls replace(linear) for each of those. What was
// replaced is added to `notes`: "<layers> are not row-invariant on this <where>: <replacement>".
template <typename Linear, typename Replace>
void ReplaceRowVariant(const std::vector<Linear*>& linears, const std::string& where,
                       const std::string& replacement, const Replace& replace,
                       std::vector<std::string>& notes) {
  std::map<std::pair<int64_t, int64_t>, bool> known;
  for (Linear* linear : linears) {
    const auto shape = std::make_pair(linear->out_features(), linear->in_features());
    auto it = known.find(shape);
    if (it == known.end()) {
      it = known.emplace(shape, linear->CheckRowInvariance()).first;
      if (!it->second) {
        std::string note = "linear layers of " + std::to_string(shape.first) + " x ";
        note += std::to_string(shape.second) + " are not row-invariant on this ";
        note += where;
        note += ": ";
        note += replacement;
        notes.push_back(std::move(note));
      }
    }
    if (!it->second) replace(*linear);
  }
}

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_ROW_INVARIANCE_H_
