#ifndef STRATA_COMMON_TRACE_SPAN_H_
#define STRATA_COMMON_TRACE_SPAN_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "absl/container/inlined_vector.h"
#include "absl/time/time.h"
#include "common/trace/context.h"

namespace strata::trace {

// As OTLP numbers them.
enum class SpanKind : uint8_t { kInternal = 1, kServer = 2, kClient = 3 };

struct Attribute {
  // A constant of the program.
  std::string_view key;
  std::variant<bool, int64_t, double, std::string> value;
};

// A stretch of time in a trace, that is over. Says never what a prompt, a draft or an answer says.
struct Span {
  // A constant of the program.
  std::string_view name;
  SpanKind kind = SpanKind::kInternal;
  // Its own place; span_id is the span's.
  Context context;
  // All zero: none.
  SpanId parent_id{};
  // Of SteadyNow; the tracer makes the machine's time of them.
  absl::Time start;
  absl::Time end;
  absl::InlinedVector<Attribute, 6> attributes;
  // Ended with an error.
  bool failed = false;

  void Add(std::string_view key, int64_t value) { attributes.push_back({key, value}); }
  void Add(std::string_view key, double value) { attributes.push_back({key, value}); }
  void AddFlag(std::string_view key, bool value) { attributes.push_back({key, value}); }
  void Add(std::string_view key, std::string value) {
    attributes.push_back({key, std::move(value)});
  }
};

}  // namespace strata::trace

#endif  // STRATA_COMMON_TRACE_SPAN_H_
