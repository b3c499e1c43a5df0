#ifndef STRATA_SERVICES_VERIFY_SERVER_VERIFY_METRICS_H_
#define STRATA_SERVICES_VERIFY_SERVER_VERIFY_METRICS_H_

#include <string>

#include "common/metrics/page.h"
#include "services/verify/engine/engine.h"
#include "services/verify/scheduler/scheduler.h"
#include "services/verify/server/generate_service.h"

namespace strata::verify {

// What a verify service tells Prometheus; the README lists it. Reads counters alone: nobody is held
// up but for moments.
void CollectVerify(const Scheduler& scheduler, const engine::Engine& engine,
                   const RequestCounters& requests, const ServiceIdentity& identity,
                   metrics::Page& page);

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SERVER_VERIFY_METRICS_H_
