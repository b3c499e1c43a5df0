#include "services/verify/scheduler/acceptance_curve.h"

#include <algorithm>
#include <cmath>

namespace strata::verify {
namespace {

// Bins are even in the logarithm: most nodes have small probabilities, and it is there that rows
// are worth their price or not. Four to a halving, down to 1/64.
constexpr double kBinsPerHalving = 4;
// Accepted nodes that the source's own claim stands for.
constexpr double kPriorAccepted = 4;
// Of what was learned, after a step: a memory of some thousand steps.
constexpr double kKept = 0.9995;

}  // namespace

double AcceptanceCurve::HighOf(int bin) { return std::exp2(-(kBins - 1 - bin) / kBinsPerHalving); }

int AcceptanceCurve::BinOf(double claimed) {
  if (!(claimed > 0)) return 0;
  const double halvings = -std::log2(std::min(claimed, 1.0));
  return kBins - 1 - static_cast<int>(std::min(halvings * kBinsPerHalving, kBins - 1.0));
}

double AcceptanceCurve::Corrected(double claimed) const {
  if (!(claimed > 0)) return 0;
  const Counts& counts = counts_[BinOf(claimed)];
  const double ratio = (counts.accepted + kPriorAccepted) / (counts.claimed + kPriorAccepted);
  return std::min(1.0, claimed * ratio);
}

void AcceptanceCurve::Learn(double claimed, bool accepted) {
  Counts& counts = counts_[BinOf(claimed)];
  counts.verified += 1;
  counts.claimed += claimed;
  counts.accepted += accepted ? 1 : 0;
}

void AcceptanceCurve::EndStep() {
  for (Counts& counts : counts_) {
    counts.verified *= kKept;
    counts.claimed *= kKept;
    counts.accepted *= kKept;
  }
}

std::array<AcceptanceCurve::Bin, AcceptanceCurve::kBins> AcceptanceCurve::bins() const {
  std::array<Bin, kBins> out;
  for (int bin = 0; bin < kBins; ++bin) {
    const Counts& counts = counts_[bin];
    out[bin] = {bin == 0 ? 0 : HighOf(bin - 1), HighOf(bin), counts.verified, counts.claimed,
                counts.accepted};
  }
  return out;
}

}  // namespace strata::verify
