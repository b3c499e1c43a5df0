#ifndef STRATA_SERVICES_CLIENT_LOAD_LOAD_REPORT_H_
#define STRATA_SERVICES_CLIENT_LOAD_LOAD_REPORT_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "services/client/load/plan.h"
#include "services/client/load/record.h"
#include "services/client/load/summary.h"

namespace strata::client::load {

// What was measured at one level.
struct LevelResult {
  // "concurrency" (requests under way at once) or "rate" (arrivals a second).
  std::string unit;
  double level = 0;
  struct OfMode {
    Mode mode;
    // One a round.
    std::vector<LoadRun> rounds;
  };
  std::vector<OfMode> modes;
};

// The level, `modes` with their figures, and `ratios` of the modes with drafts over the mode off,
// if that was measured. A figure that was not measured is null.
nlohmann::ordered_json ToJson(const LevelResult& result);
// The same for people: a line a mode, a line a ratio, and a line a kind of failure.
std::string ToTable(const LevelResult& result);

}  // namespace strata::client::load

#endif  // STRATA_SERVICES_CLIENT_LOAD_LOAD_REPORT_H_
