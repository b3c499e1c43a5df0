#include "services/draft/server/service_metrics.h"

namespace strata::draft {

void CollectService(const DraftService& service, const std::string& version, metrics::Page& page) {
  const DraftService::Counters& counters = service.counters();
  page.AddInfo("strata_draft_build_info", "The version that runs.", {{"version", version}});
  page.AddCounter("strata_draft_streams_total", "Streams that verifiers opened.",
                  static_cast<double>(counters.streams.value()));
  page.AddGauge("strata_draft_streams_open", "Of those, streams that are open.",
                static_cast<double>(counters.open_streams.value()));
  page.AddCounter("strata_draft_streams_refused_total",
                  "Of those, streams that were ended because of what came in: a foreign tokenizer, "
                  "a message that is none.",
                  static_cast<double>(counters.refused_streams.value()));
  page.AddCounter("strata_draft_messages_total", "Messages of streams that were answered.",
                  static_cast<double>(counters.messages.value()));
  page.AddHistogram("strata_draft_service_seconds",
                    "From the arrival of a message until its answer is ready.",
                    counters.service_seconds.Snapshot());
  page.AddHistogram("strata_draft_learn_seconds",
                    "Learning from a message, after its answer is out.",
                    counters.learn_seconds.Snapshot());
  page.AddHistogram("strata_draft_ahead_seconds",
                    "Drafting ahead while the verifier computes, after the answer is out.",
                    counters.ahead_seconds.Snapshot());
}

}  // namespace strata::draft
