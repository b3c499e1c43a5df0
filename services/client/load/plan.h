#ifndef STRATA_SERVICES_CLIENT_LOAD_PLAN_H_
#define STRATA_SERVICES_CLIENT_LOAD_PLAN_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strata::client::load {

// How requests are answered.
enum class Mode {
  // With drafts, as the service does by default.
  kOn,
  // Plainly, one token a step.
  kOff,
  // With a fixed limit of draft nodes a step.
  kFixed,
};
std::string ModeName(Mode mode);

// Most requests that are under way at once: each holds a thread.
inline constexpr int kMaxConcurrency = 1024;
// Arrivals a second.
inline constexpr double kMaxRate = 1e5;

// "1,2,4" and "0.5,2" and "on,off,fixed": one or more, none twice. INVALID_ARGUMENT names the item
// at fault.
absl::StatusOr<std::vector<int>> ParseConcurrencies(absl::string_view text);
absl::StatusOr<std::vector<double>> ParseRates(absl::string_view text);
absl::StatusOr<std::vector<Mode>> ParseModes(absl::string_view text);

// The order of the modes in a round: each round begins with the next one, so that what changes on
// the machine meanwhile is no mode's alone.
std::vector<Mode> ModeOrder(const std::vector<Mode>& modes, size_t round);

// The order in which a round sends `prompts` prompts: the first as they are given, the others in
// one of their own each. Which requests meet which decides what the slowest of them take; in one
// order that is chance, however often it is run. The same with any standard library.
std::vector<size_t> PromptOrder(size_t prompts, size_t round);

// Requests of a run at a level (concurrent requests, or arrivals a second) where no number is asked
// for.
size_t DefaultRequests(double level);

}  // namespace strata::client::load

#endif  // STRATA_SERVICES_CLIENT_LOAD_PLAN_H_
