#ifndef STRATA_SERVICES_VERIFY_SCHEDULER_SEQUENCE_TRACE_H_
#define STRATA_SERVICES_VERIFY_SCHEDULER_SEQUENCE_TRACE_H_

#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "common/trace/tracer.h"
#include "services/verify/drafting/draft_source.h"

namespace strata::verify {

// The spans of one request between its arrival and its end, all below that of the request:
//   queue             from arrival to admission
//   prefill           from the first rows of the prompt to the first token; after a preemption
//   again
//     forward         one a pass that computed some
//   step              one a step after that; from its question on, if that is asked ahead of it
//     draft           from the question to the draft source to its answer
//     forward         the pass of the whole batch
// A request that is not traced costs a comparison a call. Figures and times alone: no tokens. Not
// thread-safe.
class SequenceTrace {
 public:
  // Now is when the request is admitted.
  SequenceTrace(const trace::Scope& request, absl::Time arrival);

  // The draft source is about to be asked for up to `budget` nodes. Returns the span that waits for
  // the answer, for the source to be told: the request's own if spans are recorded elsewhere alone.
  std::optional<trace::Context> OnAsk(uint32_t budget) {
    if (request_.on()) return Ask(budget);
    return request_.context.sampled ? std::optional(request_.context) : std::nullopt;
  }
  // The answer is there; the scheduler stood still for it from `wait_start` on.
  void OnDraft(absl::Time wait_start, const DraftReply& reply) {
    if (request_.on()) Draft(wait_start, reply);
  }

  // A forward pass that the request took part in, when its logits have been taken.
  struct Pass {
    absl::Time step_start;
    absl::Time forward_start;
    absl::Time forward_end;
    // Whether rows of the prompt were computed (or all anew, after a preemption).
    bool prompt = false;
    // The request's own, and those of the whole batch.
    int64_t rows = 0;
    int64_t batch_rows = 0;
    int64_t batch_sequences = 0;
    // What it added to the answer, and how the draft fared.
    int64_t tokens = 0;
    uint64_t drafted = 0;
    uint64_t accepted = 0;
  };
  void OnPass(const Pass& pass) {
    if (request_.on()) Take(pass);
  }

  // The request gives way, or ends: what had begun ends here.
  void OnInterrupted() {
    if (request_.on()) Interrupt();
  }

 private:
  trace::Context Ask(uint32_t budget);
  void Draft(absl::Time wait_start, const DraftReply& reply);
  void Take(const Pass& pass);
  void Interrupt();
  trace::Span NewSpan(std::string_view name, const trace::SpanId& id, const trace::SpanId& parent,
                      absl::Time start, absl::Time end) const;
  void RecordForward(const Pass& pass, const trace::SpanId& parent);
  void RecordPrefill(absl::Time end);

  const trace::Scope request_;

  // The span of the step under way; all zero before its first child.
  trace::SpanId step_id_{};
  absl::Time step_start_;
  // The question that is not answered yet.
  trace::SpanId draft_id_{};
  absl::Time asked_;
  uint32_t budget_ = 0;
  // The prefill under way.
  trace::SpanId prefill_id_{};
  absl::Time prefill_start_;
  int64_t prefill_rows_ = 0;
  int64_t prefill_passes_ = 0;
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SCHEDULER_SEQUENCE_TRACE_H_
