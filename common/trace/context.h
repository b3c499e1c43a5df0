#ifndef STRATA_COMMON_TRACE_CONTEXT_H_
#define STRATA_COMMON_TRACE_CONTEXT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace strata::trace {

// Never all zero, but for a default-constructed one, which stands for none.
using TraceId = std::array<uint8_t, 16>;
using SpanId = std::array<uint8_t, 8>;

// Where something stands in a distributed trace: W3C Trace Context
// (https://www.w3.org/TR/trace-context).
struct Context {
  TraceId trace_id{};
  // The span that what comes next is a part of.
  SpanId span_id{};
  // Whether spans of this trace are to be kept.
  bool sampled = false;

  friend bool operator==(const Context&, const Context&) = default;
};

// Longer texts are no traceparent to us. One of version 00 has 55 bytes.
inline constexpr size_t kMaxTraceparentBytes = 256;

// Of a traceparent; nothing if it is not valid. A later version than 00 is read as far as that
// goes, as the standard wants it.
std::optional<Context> ParseTraceparent(absl::string_view text);
// What ParseTraceparent reads.
std::string ToTraceparent(const Context& context);

// Hexadecimal digits, lower case.
std::string ToHex(const TraceId& id);
std::string ToHex(const SpanId& id);

// Random ids. Thread-safe.
TraceId NewTraceId();
SpanId NewSpanId();
// True with that probability. Thread-safe.
bool Chance(double probability);

}  // namespace strata::trace

#endif  // STRATA_COMMON_TRACE_CONTEXT_H_
