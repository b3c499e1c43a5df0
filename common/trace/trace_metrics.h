#ifndef STRATA_COMMON_TRACE_TRACE_METRICS_H_
#define STRATA_COMMON_TRACE_TRACE_METRICS_H_

#include <string>

#include "common/metrics/page.h"
#include "common/trace/tracer.h"

namespace strata::trace {

// What a tracer tells Prometheus, under names that begin with `prefix`, "strata_verify" say. Zeros
// without a tracer (null).
void CollectTracer(const Tracer* tracer, const std::string& prefix, metrics::Page& page);

}  // namespace strata::trace

#endif  // STRATA_COMMON_TRACE_TRACE_METRICS_H_
