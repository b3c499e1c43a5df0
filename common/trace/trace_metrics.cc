#include "common/trace/trace_metrics.h"

namespace strata::trace {

void CollectTracer(const Tracer* tracer, const std::string& prefix, metrics::Page& page) {
  const auto number = [&](metrics::Counter Tracer::Counters::*counter) {
    return tracer == nullptr ? 0 : static_cast<double>((tracer->counters().*counter).value());
  };
  page.AddCounter(prefix + "_trace_spans_total", "Spans written to the trace file (--trace-file).",
                  number(&Tracer::Counters::written));
  page.AddCounter(prefix + "_trace_spans_dropped_total",
                  "Spans that were not written, because too many waited or the file could not be "
                  "written.",
                  number(&Tracer::Counters::dropped));
  page.AddCounter(prefix + "_trace_write_failures_total", "Writes to the trace file that failed.",
                  number(&Tracer::Counters::failures));
}

}  // namespace strata::trace
