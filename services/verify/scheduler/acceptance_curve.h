#ifndef STRATA_SERVICES_VERIFY_SCHEDULER_ACCEPTANCE_CURVE_H_
#define STRATA_SERVICES_VERIFY_SCHEDULER_ACCEPTANCE_CURVE_H_

#include <array>

namespace strata::verify {

// How often draft nodes were accepted, by the probability that the draft source gave their path:
// a calibration curve that corrects what a source claims. A source is believed until nodes of that
// probability were verified, and again when none were for long. Not thread-safe.
class AcceptanceCurve {
 public:
  static constexpr int kBins = 24;

  // Probability that a node is accepted whose path the source gave probability `claimed`, in
  // [0, 1]; from 0 to 1.
  double Corrected(double claimed) const;
  // A verified node.
  void Learn(double claimed, bool accepted);
  // Once a step: what was learned before counts a little less.
  void EndStep();

  struct Bin {
    // Its claims are in (low, high].
    double low = 0;
    double high = 0;
    // Nodes verified, the sum of their claims, and how many were accepted; older ones count less.
    double verified = 0;
    double claimed = 0;
    double accepted = 0;
  };
  // The curve, for logs and metrics.
  std::array<Bin, kBins> bins() const;
  // The bin of a claim, and the greatest claim in a bin. Constant.
  static int BinOf(double claimed);
  static double HighOf(int bin);

 private:
  struct Counts {
    double verified = 0;
    double claimed = 0;
    double accepted = 0;
  };

  std::array<Counts, kBins> counts_{};
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SCHEDULER_ACCEPTANCE_CURVE_H_
