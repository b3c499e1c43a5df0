#ifndef STRATA_TESTS_VERIFY_LINEAR_COST_H_
#define STRATA_TESTS_VERIFY_LINEAR_COST_H_

#include "services/verify/scheduler/step_cost.h"

namespace strata::verify {

// Steps of 10 ms, and `per_row` seconds for each row behind the first.
inline StepCost Linear(double per_row) {
  StepCost cost;
  cost.Learn(1, 0, 10e-3);
  cost.Learn(257, 0, 10e-3 + 256 * per_row);
  return cost;
}

}  // namespace strata::verify

#endif  // STRATA_TESTS_VERIFY_LINEAR_COST_H_
