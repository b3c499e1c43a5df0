#ifndef STRATA_COMMON_TRACE_OTLP_JSON_H_
#define STRATA_COMMON_TRACE_OTLP_JSON_H_

#include <span>
#include <string>

#include "common/trace/span.h"

namespace strata::trace {

// Who the spans are of.
struct Resource {
  std::string service_name;
  std::string service_version;
  // Tells processes of one service apart; a Tracer fills in HOST:PID if it is empty.
  std::string service_instance_id = {};
};

// An ExportTraceServiceRequest of OTLP in its JSON form, one line without the line feed: what a
// file of the OpenTelemetry file exporter holds and the Collector's otlpjsonfile receiver reads
// (https://opentelemetry.io/docs/specs/otel/protocol/file-exporter). Whatever bytes attributes
// hold, it is valid JSON: what is not UTF-8 becomes U+FFFD.
std::string ToOtlpJson(const Resource& resource, std::span<const Span> spans);

}  // namespace strata::trace

#endif  // STRATA_COMMON_TRACE_OTLP_JSON_H_
