#ifndef STRATA_SERVICES_DRAFT_CORPUS_PACE_H_
#define STRATA_SERVICES_DRAFT_CORPUS_PACE_H_

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/steady_clock.h"

namespace strata::draft {

// For work beside requests that must not wait for a core: a fifth of one core at most, in pieces
// too short to be noticed. Not a low priority, because a thread that hardly ever runs may hold a
// lock that a request waits for. For one thread.
class Pace {
 public:
  // To be called between steps that are shorter than a piece: sleeps if a piece is done.
  void Step() {
    if (SteadyNow() - began_ < kPiece) return;
    absl::SleepFor(kRest);
    began_ = SteadyNow();
  }

 private:
  static constexpr absl::Duration kPiece = absl::Microseconds(500);
  static constexpr absl::Duration kRest = absl::Milliseconds(2);

  absl::Time began_ = SteadyNow();
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_PACE_H_
