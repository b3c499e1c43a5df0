#ifndef STRATA_TESTS_BENCH_REPLAY_REPORT_H_
#define STRATA_TESTS_BENCH_REPLAY_REPORT_H_

#include <string>

#include "tests/bench/replay/statistics.h"

namespace strata::replay {

// A table for people.
std::string TextReport(const Statistics& statistics);
// The same figures as one JSON object; README.md in the folder above lists its members.
std::string JsonReport(const Statistics& statistics);

}  // namespace strata::replay

#endif  // STRATA_TESTS_BENCH_REPLAY_REPORT_H_
