#include "services/draft/server/draft_spans.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "common/base/steady_clock.h"

namespace strata::draft {
namespace {

// Attributes, by TierKind from 1 on.
constexpr std::array<std::string_view, kTierKinds> kTierNodes = {"",
                                                                 "strata.nodes.predicted",
                                                                 "strata.nodes.context",
                                                                 "strata.nodes.model",
                                                                 "strata.nodes.corpus",
                                                                 "strata.nodes.recycled"};

void AddTree(const DraftTree& tree, trace::Span& span) {
  std::array<int64_t, kTierKinds> nodes{};
  for (const TierKind tier : tree.tiers) ++nodes[static_cast<size_t>(tier)];
  span.Add("strata.nodes", int64_t{tree.size()});
  for (size_t tier = 1; tier < nodes.size(); ++tier) {
    if (nodes[tier] > 0) span.Add(kTierNodes[tier], nodes[tier]);
  }
}

}  // namespace

void RecordDraftSpans(trace::Tracer& tracer, const v1::DraftRequest& request,
                      std::span<const SequenceAnswer> answers, absl::Time received) noexcept {
  try {
    const absl::Time now = SteadyNow();
    const size_t count = std::min(answers.size(), static_cast<size_t>(request.sequences_size()));
    for (size_t i = 0; i < count; ++i) {
      const v1::SequenceRequest& sequence = request.sequences(static_cast<int>(i));
      if (sequence.traceparent().empty()) continue;
      const std::optional<trace::Context> parent = trace::ParseTraceparent(sequence.traceparent());
      if (!parent.has_value() || !parent->sampled) continue;
      trace::Span span;
      span.name = "draft";
      span.kind = trace::SpanKind::kServer;
      span.context = {parent->trace_id, trace::NewSpanId(), /*sampled=*/true};
      span.parent_id = parent->span_id;
      span.start = received;
      span.end = now;
      span.Add("strata.status",
               std::string(kSequenceStatusNames[static_cast<size_t>(answers[i].status)]));
      span.Add("strata.node_budget", int64_t{sequence.node_budget()});
      span.Add("strata.batch_sequences", static_cast<int64_t>(answers.size()));
      AddTree(answers[i].tree, span);
      tracer.Record(std::move(span));
    }
  } catch (const std::exception&) {
    // No memory. No span is worth a draft.
  }
}

}  // namespace strata::draft
