#ifndef STRATA_SERVICES_VERIFY_SCHEDULER_PACE_H_
#define STRATA_SERVICES_VERIFY_SCHEDULER_PACE_H_

#include <cstdint>

namespace strata::verify {

// How far a sequence is ahead of where steps without drafts would have brought it, in such steps.
// Draft rows make a step longer for all that share it: a sequence that gains little from its own
// drafts loses by what others gain.
class Lead {
 public:
  // It got `tokens` in a step that took `stretch` times as long as without drafts.
  void Add(uint32_t tokens, double stretch);
  double steps() const { return steps_; }
  // Whether it is slower than it would be without drafts, by more than chance.
  bool behind() const { return steps_ < -kNoise; }

 private:
  static constexpr double kNoise = 1.5;

  // What it may lose at first, or nobody could begin to gain.
  double steps_ = 1;
};

// How many of the sequences under way may fall behind, so that no more than a given share of all
// do: each request that ends earns that share of a place, and one that ends behind uses up a whole
// one. Places that are not used do not pile up: at a time there are two, or that share of those
// under way if it is more. Not thread-safe.
class SlowedPlaces {
 public:
  // share: from 0 (nobody) to 1 (whoever it may be).
  explicit SlowedPlaces(double share) : share_(share) {}

  // A sequence that drafts were made for has ended, one of `sequences` under way.
  void End(bool behind, int64_t sequences);
  // How many may be behind at a time, of `sequences`.
  int64_t Of(int64_t sequences) const;

 private:
  // At a time, of so many.
  double Most(int64_t sequences) const;

  const double share_;
  double places_ = 1;
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SCHEDULER_PACE_H_
