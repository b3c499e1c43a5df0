#ifndef STRATA_SERVICES_VERIFY_SCHEDULER_GENERATION_H_
#define STRATA_SERVICES_VERIFY_SCHEDULER_GENERATION_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/base/draft_tree.h"
#include "common/trace/tracer.h"
#include "services/draft/hierarchy/drafter.h"
#include "services/verify/engine/sampling.h"

namespace strata::verify {

// One request, as the scheduler takes it: checked, tokenized, defaults filled in.
struct GenerationRequest {
  // Not empty; ids in the vocabulary.
  std::vector<TokenId> prompt;
  engine::SamplingParams sampling;
  // At least 1. Cut to what fits behind the prompt in the longest sequence.
  int64_t max_tokens = 1;
  // Generation ends before the first of these in the text.
  std::vector<std::string> stop;
  // Token ids that end generation; they are part of the tokens, not of the text.
  std::vector<TokenId> final_tokens;
  bool speculate = true;
  // Most draft nodes a step; unset takes the scheduler's default.
  std::optional<uint32_t> max_nodes;
  std::vector<TokenId> predicted;
  std::string tenant;
  draft::Policy policy = draft::Policy::kDefault;
  bool logprobs = false;
  int32_t top_logprobs = 0;
  // The span of the whole request, if it is traced.
  trace::Scope trace;
};

enum class FinishReason : uint8_t { kNone = 0, kEos = 1, kStop = 2, kLength = 3 };

struct OutputLogprob {
  engine::TokenLogprob token;
  std::vector<engine::TokenLogprob> top;
};

// What one step added. logprobs is empty or one a token.
struct GenerationChunk {
  std::vector<TokenId> tokens;
  std::string text;
  std::vector<OutputLogprob> logprobs;
};

// See strata.v1.GenerationStatistics for what each figure counts.
struct GenerationStats {
  uint32_t prompt_tokens = 0;
  uint32_t cached_prompt_tokens = 0;
  uint32_t output_tokens = 0;
  uint32_t steps = 0;
  uint64_t drafted = 0;
  uint64_t accepted = 0;
  std::vector<uint64_t> drafted_by_position;
  std::vector<uint64_t> accepted_by_position;
  std::array<uint64_t, kTierKinds> drafted_by_tier{};
  std::array<uint64_t, kTierKinds> accepted_by_tier{};
  absl::Duration prefill_time;
  absl::Duration draft_time;
  absl::Duration verify_time;
  absl::Duration total_time;
  uint64_t draft_misses = 0;
  uint32_t preemptions = 0;
};

// Where a request's results go. Called by the scheduler's thread, which must not be
// held up; `cancelled` from that thread too, while others may make it true. One that makes way in a
// full queue is finished by the thread that submits another.
class GenerationSink {
 public:
  virtual ~GenerationSink() = default;
  virtual void OnChunk(GenerationChunk chunk) = 0;
  // The last call, made exactly once for a request that was submitted. `reason` is
  // kNone if `status` is an error.
  virtual void OnFinish(const absl::Status& status, FinishReason reason,
                        const GenerationStats& stats) = 0;
  // Asked once a step; once true the request is dropped and finishes with CANCELLED.
  virtual bool cancelled() const = 0;
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SCHEDULER_GENERATION_H_
