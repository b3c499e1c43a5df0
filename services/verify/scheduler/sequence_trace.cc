#include "services/verify/scheduler/sequence_trace.h"

#include <algorithm>
#include <utility>

#include "common/base/steady_clock.h"

namespace strata::verify {
namespace {

constexpr trace::SpanId kNone{};

}  // namespace

SequenceTrace::SequenceTrace(const trace::Scope& request, absl::Time arrival) : request_(request) {
  if (!request_.on()) return;
  request_.tracer->Record(
      NewSpan("queue", trace::NewSpanId(), request_.context.span_id, arrival, SteadyNow()));
}

trace::Span SequenceTrace::NewSpan(std::string_view name, const trace::SpanId& id,
                                   const trace::SpanId& parent, absl::Time start,
                                   absl::Time end) const {
  trace::Span span;
  span.name = name;
  span.context = {request_.context.trace_id, id, /*sampled=*/true};
  span.parent_id = parent;
  span.start = start;
  span.end = end;
  return span;
}

trace::Context SequenceTrace::Ask(uint32_t budget) {
  asked_ = SteadyNow();
  budget_ = budget;
  draft_id_ = trace::NewSpanId();
  if (step_id_ == kNone) {
    step_id_ = trace::NewSpanId();
    step_start_ = asked_;
  }
  return {request_.context.trace_id, draft_id_, /*sampled=*/true};
}

void SequenceTrace::Draft(absl::Time wait_start, const DraftReply& reply) {
  if (draft_id_ == kNone) return;
  const absl::Time now = SteadyNow();
  trace::Span span = NewSpan("draft", std::exchange(draft_id_, kNone), step_id_, asked_, now);
  span.kind = trace::SpanKind::kClient;
  span.Add("strata.node_budget", int64_t{budget_});
  span.Add("strata.nodes", int64_t{reply.tree.size()});
  span.Add("strata.wait_seconds", absl::ToDoubleSeconds(now - std::max(wait_start, asked_)));
  span.AddFlag("strata.missed", reply.missed);
  span.AddFlag("strata.ahead", reply.ahead);
  request_.tracer->Record(std::move(span));
}

void SequenceTrace::RecordForward(const Pass& pass, const trace::SpanId& parent) {
  trace::Span span =
      NewSpan("forward", trace::NewSpanId(), parent, pass.forward_start, pass.forward_end);
  span.Add("strata.rows", pass.rows);
  span.Add("strata.batch_rows", pass.batch_rows);
  span.Add("strata.batch_sequences", pass.batch_sequences);
  request_.tracer->Record(std::move(span));
}

void SequenceTrace::RecordPrefill(absl::Time end) {
  trace::Span span = NewSpan("prefill", std::exchange(prefill_id_, kNone), request_.context.span_id,
                             prefill_start_, end);
  span.Add("strata.rows", std::exchange(prefill_rows_, 0));
  span.Add("strata.passes", std::exchange(prefill_passes_, 0));
  request_.tracer->Record(std::move(span));
}

void SequenceTrace::Take(const Pass& pass) {
  const absl::Time now = SteadyNow();
  if (pass.prompt) {
    if (prefill_id_ == kNone) {
      prefill_id_ = trace::NewSpanId();
      prefill_start_ = pass.step_start;
    }
    prefill_rows_ += pass.rows;
    ++prefill_passes_;
    RecordForward(pass, prefill_id_);
    if (pass.tokens > 0) RecordPrefill(now);
    return;
  }
  absl::Time start = pass.step_start;
  trace::SpanId id = std::exchange(step_id_, kNone);
  if (id == kNone) {
    id = trace::NewSpanId();
  } else {
    start = std::min(start, step_start_);
  }
  RecordForward(pass, id);
  trace::Span span = NewSpan("step", id, request_.context.span_id, start, now);
  span.Add("strata.tokens", pass.tokens);
  span.Add("strata.drafted", static_cast<int64_t>(pass.drafted));
  span.Add("strata.accepted", static_cast<int64_t>(pass.accepted));
  request_.tracer->Record(std::move(span));
}

void SequenceTrace::Interrupt() {
  const absl::Time now = SteadyNow();
  if (draft_id_ != kNone) Draft(now, {.tree = {}, .missed = true});
  if (step_id_ != kNone) {
    request_.tracer->Record(NewSpan("step", std::exchange(step_id_, kNone),
                                    request_.context.span_id, step_start_, now));
  }
  if (prefill_id_ != kNone) RecordPrefill(now);
}

}  // namespace strata::verify
