#ifndef STRATA_SERVICES_DRAFT_SERVER_SERVICE_METRICS_H_
#define STRATA_SERVICES_DRAFT_SERVER_SERVICE_METRICS_H_

#include <string>

#include "common/metrics/page.h"
#include "services/draft/server/draft_service.h"

namespace strata::draft {

// What the RPC shell tells Prometheus; the README lists it.
void CollectService(const DraftService& service, const std::string& version, metrics::Page& page);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_SERVER_SERVICE_METRICS_H_
