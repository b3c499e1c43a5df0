#include "services/verify/scheduler/pace.h"

#include <algorithm>

namespace strata::verify {
namespace {

constexpr double kMostPlaces = 2;
// A sequence is not to be brought forward by more steps than this, however unlucky its drafts were.
constexpr double kMostBehind = 4;

}  // namespace

void Lead::Add(uint32_t tokens, double stretch) {
  steps_ = std::max(steps_ + static_cast<double>(tokens) - stretch, -kMostBehind);
}

double SlowedPlaces::Most(int64_t sequences) const {
  return std::max(kMostPlaces, share_ * static_cast<double>(sequences));
}

void SlowedPlaces::End(bool behind, int64_t sequences) {
  places_ = std::min(places_ + share_, Most(sequences));
  if (behind) places_ = std::max(places_ - 1, 0.0);
}

int64_t SlowedPlaces::Of(int64_t sequences) const {
  if (share_ >= 1) return sequences;
  return share_ <= 0
             ? 0
             : std::min(static_cast<int64_t>(std::min(places_, Most(sequences))), sequences);
}

}  // namespace strata::verify
