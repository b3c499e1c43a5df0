#ifndef STRATA_SERVICES_DRAFT_CORPUS_PROGRESS_H_
#define STRATA_SERVICES_DRAFT_CORPUS_PROGRESS_H_

#include <string>

#include "absl/time/time.h"

namespace strata::draft {

// A bar on standard error; silent if that is not a terminal. Not thread-safe.
class ProgressBar {
 public:
  ProgressBar();
  // Ends the line.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // `share` in [0, 1]. A new phase gets a line of its own. Cheap: draws at most ten
  // times a second.
  void Show(const std::string& phase, double share);
  // Removes an unfinished bar, so that a message can stand in its place.
  void Clear();

 private:
  void Draw(double share);

  const bool on_terminal_;
  std::string phase_;
  absl::Time started_;
  absl::Time drawn_ = absl::InfinitePast();
  double share_ = 0;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_PROGRESS_H_
