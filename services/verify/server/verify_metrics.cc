#include "services/verify/server/verify_metrics.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace strata::verify {
namespace {

using metrics::Page;

double Number(const metrics::Counter& counter) { return static_cast<double>(counter.value()); }
double Number(const metrics::Gauge& gauge) { return static_cast<double>(gauge.value()); }

void CollectIdentity(const engine::EngineInfo& info, const ServiceIdentity& identity, Page& page) {
  page.AddInfo("strata_verify_build_info", "The version that runs.",
               {{"version", identity.version}});
  page.AddInfo("strata_verify_model_info", "The model that is served.",
               {{"model_id", identity.model_id},
                {"architecture", info.architecture},
                {"dtype", engine::DTypeName(info.dtype)},
                {"weights", info.int8_weights ? "int8" : "native"},
                {"device", info.device}});
  page.AddGauge("strata_verify_exact",
                "1 if the self-check vouches that drafts cannot change a token.",
                info.exact ? 1 : 0);
}

void CollectRequests(const RequestCounters& requests, Page& page) {
  for (size_t code = 0; code < kStatusCodes; ++code) {
    page.AddCounter("strata_verify_requests_total", "Generate calls that ended, by status.",
                    Number(requests.by_status[code]), {{"outcome", StatusName(code)}});
  }
  page.AddCounter("strata_verify_quota_refusals_total",
                  "Of those with RESOURCE_EXHAUSTED, calls refused for their tenant's quota.",
                  Number(requests.quota_refusals));
  page.AddGauge("strata_verify_requests_in_flight", "Generate calls under way.",
                Number(requests.in_flight));
  page.AddHistogram("strata_verify_request_seconds", "Duration of Generate calls.",
                    requests.seconds.Snapshot());
  page.AddHistogram("strata_verify_first_token_seconds",
                    "From the arrival of a Generate call to its first tokens.",
                    requests.first_token_seconds.Snapshot());
}

void CollectQueue(const Scheduler& scheduler, Page& page) {
  const SchedulerCounters& counters = scheduler.counters();
  page.AddGauge("strata_verify_queue_length", "Requests that wait to be admitted.",
                static_cast<double>(scheduler.queue_length()));
  page.AddGauge("strata_verify_queue_limit", "Most requests that may wait (--max-queue).",
                scheduler.options().max_queue);
  page.AddGauge("strata_verify_active_sequences", "Requests that take part in steps.",
                Number(counters.active));
  page.AddGauge("strata_verify_batch_limit",
                "Most requests that may take part in a step (--max-batch).",
                scheduler.options().max_batch);
  page.AddGauge("strata_verify_preempted_sequences",
                "Requests that gave their KV pages back and wait to go on.",
                Number(counters.preempted));
  page.AddCounter("strata_verify_preemptions_total",
                  "How often a request gave its KV pages to an older one.",
                  Number(counters.preemptions));
  page.AddHistogram("strata_verify_queue_seconds", "What requests waited to be admitted.",
                    counters.queue_seconds.Snapshot());
}

void CollectTokens(const SchedulerCounters& counters, Page& page) {
  page.AddCounter("strata_verify_prompt_tokens_total", "Prompt tokens of requests that ended.",
                  Number(counters.prompt_tokens));
  page.AddCounter("strata_verify_cached_prompt_tokens_total",
                  "Of those, tokens that were not computed, but found in the prefix cache.",
                  Number(counters.cached_prompt_tokens));
  page.AddCounter("strata_verify_output_tokens_total", "Tokens generated.",
                  Number(counters.output_tokens));
  page.AddCounter("strata_verify_request_steps_total",
                  "Steps after the prompt, one for each request that took part.",
                  Number(counters.request_steps));
}

void CollectSteps(const SchedulerCounters& counters, Page& page) {
  page.AddCounter("strata_verify_steps_total", "Steps, each for the whole batch.",
                  Number(counters.steps));
  for (const auto& [kind, rows] :
       {std::pair("prompt", &counters.prompt_rows), std::pair("decode", &counters.decode_rows)}) {
    page.AddCounter("strata_verify_rows_total",
                    "Rows of forward passes: of prompts, or of last tokens with their draft trees.",
                    Number(*rows), {{"kind", kind}});
  }
  page.AddHistogram("strata_verify_step_seconds", "Duration of steps.",
                    counters.step_seconds.Snapshot());
  page.AddHistogram("strata_verify_draft_wait_seconds",
                    "What steps that asked for drafts waited for them.",
                    counters.draft_wait_seconds.Snapshot());
  page.AddHistogram("strata_verify_forward_seconds", "Duration of forward passes.",
                    counters.forward_seconds.Snapshot());
  for (size_t i = 0; i < SchedulerCounters::kCostRows.size(); ++i) {
    page.AddGauge(
        "strata_verify_step_cost_seconds",
        "What a step of so many rows is reckoned to take where drafts are weighed, beside "
        "what their context costs.",
        counters.step_cost[i].value(), {{"rows", absl::StrCat(SchedulerCounters::kCostRows[i])}});
  }
}

void CollectNodes(const SchedulerCounters& counters, Page& page) {
  const auto each_tier = [&](const char* name, const char* help, auto member) {
    for (size_t tier = 0; tier < kTierKinds; ++tier) {
      // Of a tier that this service does not know, which only another version's draft service has.
      if (tier == 0 && Number(counters.by_tier[tier].*member) == 0) continue;
      page.AddCounter(name, help, Number(counters.by_tier[tier].*member),
                      {{"tier", TierName(static_cast<TierKind>(tier))}});
    }
  };
  each_tier("strata_verify_drafted_nodes_total",
            "Draft nodes verified, by the tier they came from.",
            &SchedulerCounters::Nodes::drafted);
  each_tier("strata_verify_accepted_nodes_total", "Of those, nodes that became part of an answer.",
            &SchedulerCounters::Nodes::accepted);
  const auto each_position = [&](const char* name, const char* help, auto member) {
    for (size_t i = 0; i < SchedulerCounters::kPositions; ++i) {
      const bool last = i + 1 == SchedulerCounters::kPositions;
      page.AddCounter(name, help, Number(counters.by_position[i].*member),
                      {{"position", absl::StrCat(i, last ? "+" : "")}});
    }
  };
  each_position("strata_verify_drafted_positions_total",
                "Steps of a request that verified a draft node at this depth.",
                &SchedulerCounters::Nodes::drafted);
  each_position("strata_verify_accepted_positions_total",
                "Of those, steps in which the node at this depth became part of the answer.",
                &SchedulerCounters::Nodes::accepted);
  const auto each_bin = [&](const char* name, const char* help, auto value) {
    for (int bin = 0; bin < AcceptanceCurve::kBins; ++bin) {
      page.AddCounter(name, help, static_cast<double>(value(counters.by_confidence[bin])),
                      {{"upto", absl::StrFormat("%.4f", AcceptanceCurve::HighOf(bin))}});
    }
  };
  each_bin("strata_verify_confidence_nodes_total",
           "Draft nodes verified, by the probability that the draft gave their path.",
           [](const auto& bin) { return bin.verified.value(); });
  each_bin("strata_verify_confidence_claimed_total", "Sum of those probabilities.",
           [](const auto& bin) { return bin.claimed.value(); });
  each_bin("strata_verify_confidence_accepted_total",
           "Of those nodes, the ones that the model accepted.",
           [](const auto& bin) { return bin.accepted.value(); });
}

void CollectWork(const engine::Engine& engine, Page& page) {
  const engine::WorkSeconds seconds = engine.work_seconds();
  for (size_t kind = 0; kind < engine::kWorkKinds; ++kind) {
    page.AddCounter(
        "strata_verify_pass_thread_seconds_total",
        "Time of the threads that compute forward passes together (bf16 weights on a CPU, "
        "not by oneDNN), by what they did; waiting: for each other.",
        seconds[kind], {{"work", engine::kWorkNames[kind]}});
  }
}

void CollectPages(const engine::Engine& engine, Page& page) {
  page.AddGauge("strata_verify_kv_pages", "Pages of the KV cache.",
                static_cast<double>(engine.info().kv_pages_total));
  page.AddGauge("strata_verify_kv_pages_free", "Of those, pages that nobody holds.",
                static_cast<double>(engine.kv_pages_free()));
  page.AddGauge("strata_verify_kv_pages_kept",
                "Pages that keep prefixes of earlier requests until they are needed.",
                static_cast<double>(engine.kv_pages_kept()));
  page.AddGauge("strata_verify_kv_page_tokens", "Tokens of a page.",
                static_cast<double>(engine.info().kv_page_tokens));
}

void CollectDrafting(const Scheduler& scheduler, Page& page) {
  const DraftSource& source = scheduler.draft_source();
  page.AddInfo("strata_verify_draft_mode_info", "Where drafts come from.",
               {{"mode", source.mode()}});
  page.AddGauge("strata_verify_draft_available", "1 if full drafts are to be expected now.",
                source.available() ? 1 : 0);
  page.AddCounter("strata_verify_draft_misses_total",
                  "Drafts for a request's step that were not there in time, or not asked for "
                  "because the circuit breaker was open.",
                  Number(scheduler.counters().draft_misses));
  const std::optional<RemoteDraftStats> remote = source.remote_stats();
  if (!remote.has_value()) return;
  page.AddCounter("strata_verify_draft_messages_total",
                  "Messages to the draft service that ask for drafts.",
                  static_cast<double>(remote->messages));
  page.AddCounter("strata_verify_draft_answers_total", "Of those, messages answered in time.",
                  static_cast<double>(remote->answers));
  page.AddCounter("strata_verify_draft_deadline_misses_total",
                  "Steps that waited for the draft service until their deadline, in vain.",
                  static_cast<double>(remote->deadline_misses));
  page.AddCounter("strata_verify_draft_streams_total", "Streams opened to the draft service.",
                  static_cast<double>(remote->streams));
  page.AddCounter("strata_verify_draft_streams_broken_total",
                  "Of those, streams that ended by themselves.",
                  static_cast<double>(remote->streams_broken));
  page.AddCounter("strata_verify_draft_forgotten_sequences_total",
                  "Sequences that the draft service did not know any more.",
                  static_cast<double>(remote->forgotten));
  page.AddCounter("strata_verify_drafts_total", "Drafts wanted for a request's step.",
                  static_cast<double>(remote->drafts));
  page.AddCounter("strata_verify_drafts_ahead_total",
                  "Of those, drafts that had come before their step began, so that nobody waited.",
                  static_cast<double>(remote->drafts_ahead));
  page.AddGauge("strata_verify_draft_breaker_open",
                "1 if the circuit breaker is open: the draft service is not asked.",
                remote->breaker_open ? 1 : 0);
  page.AddHistogram("strata_verify_draft_round_trip_seconds",
                    "From a message to the draft service to its answer.", remote->round_trip);
}

}  // namespace

void CollectVerify(const Scheduler& scheduler, const engine::Engine& engine,
                   const RequestCounters& requests, const ServiceIdentity& identity, Page& page) {
  CollectIdentity(engine.info(), identity, page);
  CollectRequests(requests, page);
  CollectQueue(scheduler, page);
  CollectTokens(scheduler.counters(), page);
  CollectSteps(scheduler.counters(), page);
  CollectNodes(scheduler.counters(), page);
  CollectWork(engine, page);
  CollectPages(engine, page);
  CollectDrafting(scheduler, page);
}

}  // namespace strata::verify
