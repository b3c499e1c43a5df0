#ifndef STRATA_SERVICES_CLIENT_REPORT_H_
#define STRATA_SERVICES_CLIENT_REPORT_H_

#include <nlohmann/json.hpp>
#include <string>

#include "services/client/call.h"

namespace strata::client {

// "context", "model", ...; "eos", "stop", "length".
std::string TierLabel(v1::Tier tier);
std::string FinishLabel(v1::FinishReason reason);

// The message's fields under their own names, with tiers as labels, and two more:
// tokens_per_step, and tokens_per_second after prefill (0 if not defined).
nlohmann::ordered_json ToJson(const v1::GenerationStatistics& statistics);
nlohmann::ordered_json ToJson(const Answer& answer);
// One line a figure, for people.
std::string ToTable(const v1::GenerationStatistics& statistics);

// JSON text; bytes that are not UTF-8 become U+FFFD.
std::string Dump(const nlohmann::ordered_json& json);

// 0 if the denominator is.
double Ratio(double numerator, double denominator);

}  // namespace strata::client

#endif  // STRATA_SERVICES_CLIENT_REPORT_H_
