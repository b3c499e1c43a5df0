#ifndef STRATA_SERVICES_VERIFY_SCHEDULER_STEP_COST_H_
#define STRATA_SERVICES_VERIFY_SCHEDULER_STEP_COST_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "services/verify/engine/engine.h"
#include "services/verify/engine/status.h"

namespace strata::verify {

// What one step costs on this machine by its rows and by how much context they attend to:
//
//   seconds = scale * base(rows) + pair_seconds * pairs,   pairs = sum over rows of their context
//
// base is piecewise linear through points that are learned, and never falls (isotonic regression).
// `scale` follows the machine from moment to moment (another process, a lower clock), so that what
// slows every step alike does not look like the price of rows. Not thread-safe.
class StepCost {
 public:
  // Whether enough is known to tell what a row costs: steps of two sizes at least.
  bool known() const { return points_known_ >= 2; }
  // rows >= 1, seconds > 0; others are ignored.
  void Learn(int64_t rows, int64_t pairs, double seconds);
  // 0 if nothing is known. Beyond the largest step seen, the slope over its last half goes on.
  double Estimate(int64_t rows, int64_t pairs) const;

  // The price of one row that attends to one token of context.
  void set_pair_seconds(double seconds) { pair_seconds_ = seconds; }

 private:
  struct Point {
    int64_t rows = 0;
    double seconds = 0;
    // Steps that it was learned from; 0: unknown.
    int64_t steps = 0;
  };

  static size_t IndexOf(int64_t rows);
  double Base(double rows) const;
  // Brings the known points into curve_.
  void Rebuild();

  std::vector<Point> points_;
  // (rows, seconds), both rising.
  std::vector<std::pair<double, double>> curve_;
  int points_known_ = 0;
  double scale_ = 1;
  double pair_seconds_ = 0;
};

// Fills `cost` by running steps of up to `max_rows` rows (512 at most) on `engine`, which must be
// idle, and larger ones where they take little time: a second or two, and no sequence is left. Run
// it on a thread that ends (engine/own_thread.h). Stops early, with what is known by then, where
// the KV cache or the longest sequence ends.
engine::Status MeasureStepCost(engine::Engine& engine, int64_t max_rows, StepCost& cost);

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SCHEDULER_STEP_COST_H_
