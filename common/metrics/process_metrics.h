#ifndef STRATA_COMMON_METRICS_PROCESS_METRICS_H_
#define STRATA_COMMON_METRICS_PROCESS_METRICS_H_

#include "common/metrics/page.h"

namespace strata::metrics {

// What Prometheus' client libraries tell of every process: memory, processor time, file
// descriptors, start. What the system does not tell is left out.
void CollectProcess(Page& page);

}  // namespace strata::metrics

#endif  // STRATA_COMMON_METRICS_PROCESS_METRICS_H_
