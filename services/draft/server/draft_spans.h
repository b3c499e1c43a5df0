#ifndef STRATA_SERVICES_DRAFT_SERVER_DRAFT_SPANS_H_
#define STRATA_SERVICES_DRAFT_SERVER_DRAFT_SPANS_H_

#include <span>

#include "absl/time/time.h"
#include "common/trace/tracer.h"
#include "services/draft/hierarchy/drafter.h"
#include "strata/v1/draft.pb.h"

namespace strata::draft {

// Records a span `draft` for each sequence of a message whose traceparent says that it is sampled:
// from when the message came, at `received`, until now. answers[i] answers request.sequences(i).
// Anything that is no traceparent is as if there were none. Figures alone: no tokens.
void RecordDraftSpans(trace::Tracer& tracer, const v1::DraftRequest& request,
                      std::span<const SequenceAnswer> answers, absl::Time received) noexcept;

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_SERVER_DRAFT_SPANS_H_
