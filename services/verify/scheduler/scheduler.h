#ifndef STRATA_SERVICES_VERIFY_SCHEDULER_SCHEDULER_H_
#define STRATA_SERVICES_VERIFY_SCHEDULER_SCHEDULER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/steady_condition.h"
#include "common/tokenizer/tokenizer.h"
#include "services/verify/drafting/draft_source.h"
#include "services/verify/engine/engine.h"
#include "services/verify/scheduler/generation.h"
#include "services/verify/scheduler/live_sequence.h"
#include "services/verify/scheduler/node_budget.h"
#include "services/verify/scheduler/pace.h"
#include "services/verify/scheduler/prefix_cache.h"
#include "services/verify/scheduler/scheduler_counters.h"
#include "services/verify/scheduler/step_cost.h"
#include "services/verify/scheduler/waiting_queue.h"

namespace strata::verify {

struct SchedulerOptions {
  // Most sequences in one forward pass, 1 to 1,024.
  int max_batch = 16;
  // Most requests that wait for room.
  int max_queue = 256;
  // Most prompt tokens in one forward pass, over all sequences: what a long prompt
  // may hold up the others by.
  int prefill_chunk = 256;
  // Most draft nodes a step of a request that does not say; requests may not ask for more than
  // max_draft_nodes.
  uint32_t draft_nodes = 32;
  uint32_t max_draft_nodes = 256;
  // Verify only the nodes that pay for their rows (NodeBudget). Else all that a draft source gives.
  bool measured_budget = true;
  // With that, the share of requests that may be slower than without drafts (SlowedPlaces), 0 to 1,
  // since they share steps with others that gain; 1: only the tokens a second of all count.
  double slowed_share = 0.2;
  // Next tokens of each verified row, accepted or not, that the draft source is told of (Token
  // Recycling, arXiv 2408.08696), 0 to RowRanking::kMaxTokens; 0: none. On SmolLM2 eight gave 2.77
  // tokens a step instead of 2.43 at 32 nodes, and 2.19 instead of 2.10 at 8 (40 dev questions).
  int recycled_tokens = RowRanking::kMaxTokens;
  // Of a prompt's rows too, which costs their logits.
  bool recycle_prompts = false;
  // Share of the KV pages that may keep what requests began with for later ones (PrefixCache), 0 to
  // 1; 0: none. Such pages are free to whoever needs them. None either if the engine is not exact:
  // a page might have other bits than the request would have computed.
  double prefix_cache_share = 1;
};

// INVALID_ARGUMENT names the option that is out of range.
absl::Status ValidateSchedulerOptions(const SchedulerOptions& options);

// Continuous batching: one worker thread runs step after step; requests join and
// leave between any two. A request starts when there are KV pages for its prompt; should pages run
// out later, the youngest gives its own back and is computed anew when there is room again. A step
// takes the draft source's answer, runs one forward pass over draft trees and prompt chunks,
// verifies, and asks the draft source for the next step, for all decoding sequences at once; what
// else is to be done with the verified tokens is done while the drafts are made. The tokens of a
// request do not depend on what else runs, nor
// on any draft. Public methods are thread-safe.
class Scheduler {
 public:
  // `options` are valid; engine and tokenizer must outlive the scheduler, and nobody else
  // may call the engine's Forward or Commit meanwhile.
  // `cost` is what is known of the engine's steps, MeasureStepCost's say; the scheduler learns on.
  Scheduler(const SchedulerOptions& options, engine::Engine& engine, const Tokenizer& tokenizer,
            std::unique_ptr<DraftSource> draft_source, StepCost cost = {});
  // Requests not finished end with CANCELLED.
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Queues a request. On an error the sink is not called: INVALID_ARGUMENT (empty prompt, a token
  // outside the vocabulary, max_tokens below 1), OUT_OF_RANGE (no room for a token behind the
  // prompt), RESOURCE_EXHAUSTED (queue full, or larger than the KV cache), UNAVAILABLE (draining).
  absl::Status Submit(GenerationRequest request, std::shared_ptr<GenerationSink> sink)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // From here on Submit says UNAVAILABLE.
  void StopAdmission() ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits until no request is left, or for `timeout`. True if none is.
  bool WaitIdle(absl::Duration timeout) const ABSL_LOCKS_EXCLUDED(mutex_);

  const DraftSource& draft_source() const { return *draft_source_; }
  // How often a request had to give its KV pages to an older one so far.
  uint64_t preemptions() const { return counters_.preemptions.value(); }
  const SchedulerCounters& counters() const { return counters_; }
  // Requests that wait for room for the first time.
  size_t queue_length() const ABSL_LOCKS_EXCLUDED(mutex_);
  const SchedulerOptions& options() const { return options_; }

 private:
  using Sequences = std::vector<std::unique_ptr<LiveSequence>>;

  // KV pages that hold so many tokens.
  int64_t PagesFor(int64_t tokens) const;
  // The worker.
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns as soon as there is something to do; false when the scheduler is to end.
  bool AwaitRequests() ABSL_LOCKS_EXCLUDED(mutex_);
  // Moves preempted, then waiting requests to active_ while there is room.
  void Admit() ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether a sequence of these tokens may start now: with room for what the active ones will
  // hold as soon as their tokens are computed, and for a page more of each.
  bool HasRoomFor(const std::string& tenant, std::span<const TokenId> tokens) const;
  void AdmitPreempted();
  // Of prompts that begin alike, the oldest request's is computed; the others follow, from its
  // pages, as soon as it has come to where they part.
  void FollowPrompts();
  bool Leads(const LiveSequence& leader, const LiveSequence& follower) const;
  void DropCancelled();
  void Step();
  // Most draft nodes of one step over all sequences.
  int64_t MaxStepNodes() const;
  // Asks for the trees of the next step, as soon as all tokens of this one are known.
  void AskForDrafts();
  // Sets the trees that were asked for; waits for them. Before a sequence of asked_ ends.
  void TakeDrafts();
  // The draft source's answers for asked_, however it fails.
  std::vector<DraftReply> AwaitDrafts();
  // Leaves of the trees just set what is worth its rows.
  void SpendBudget();
  // A sequence that a forward pass was for, and what became of it.
  struct Verified {
    LiveSequence* sequence = nullptr;
    // What verification added to the request's own figures.
    uint32_t steps = 0;
    uint32_t tokens = 0;
    // Its rows were the prompt's.
    bool prompt = false;
    absl::Status status{};
  };
  // What a step's forward passes computed.
  struct StepWork {
    std::vector<Verified> verified{};
    int64_t rows = 0;
    int64_t pairs = 0;
    // Of those, draft nodes', and those of the sequences that decode, without drafts.
    int64_t draft_rows = 0;
    int64_t draft_pairs = 0;
    int64_t plain_rows = 0;
    int64_t plain_pairs = 0;
    bool prefilling = false;
    // When the step began, what drafts were waited for in it, and when the passes began.
    absl::Time step_start;
    absl::Duration draft_wait;
    absl::Time start;
  };
  // Adds what verification did to the counters.
  void CountVerified(const Verified& verified);
  void CountSequences();
  // Teaches the budget how long the pass took, and what became of its trees.
  void LearnStep(const StepWork& work);
  // What steps cost, to whoever reads the counters.
  void TellStepCost();
  // How the step's sequences fare among drafts.
  void CountLeads(const StepWork& work);
  // Prompt rows of the coming step for each of active_, 0 for those that decode. All that have some
  // to compute share a chunk, what the short ones leave going to the long ones: a long prompt holds
  // up nobody else's.
  std::vector<int64_t> PromptRows() const;
  // KV pages that the coming step lacks; 0 or less: none.
  int64_t MissingPages() const;
  // Makes the coming step fit: without pages that only the prefix cache keeps first, then without
  // drafts, then by preempting the youngest.
  void MakeRoom();
  // The sequences of this step, with their rows prepared.
  std::vector<LiveSequence*> PlanBatch(std::vector<engine::SequenceInput>& inputs);
  void ForwardAndVerify(std::vector<LiveSequence*> batch, std::vector<engine::SequenceInput> inputs,
                        StepWork& work);
  // Each sequence's rows of output_, on several threads if that is worth it.
  void VerifyAll(std::span<LiveSequence* const> batch,
                 std::span<const engine::SequenceInput> inputs);
  // Ends the sequences whose pass failed, and takes them out of `work`.
  void EndFailed(StepWork& work);
  // Passes on what was verified, and ends what is finished.
  void Publish(const StepWork& work);
  // Keeps what a sequence has computed for those that begin alike.
  void Remember(const LiveSequence& sequence);
  // Ends active or preempted sequence `id` and frees all it holds.
  void End(uint64_t id, const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  void EndAll(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);

  const SchedulerOptions options_;
  engine::Engine& engine_;
  const Tokenizer& tokenizer_;
  const std::unique_ptr<DraftSource> draft_source_;
  SchedulerCounters counters_;

  // The worker's alone.
  Sequences active_;
  // Those that made room, by id: the oldest first. They hold no pages, and come back ahead of who
  // waits.
  Sequences preempted_;
  uint64_t next_id_ = 1;
  PrefixCache prefix_cache_;
  NodeBudget budget_;
  SlowedPlaces slowed_places_;
  // What the draft source was asked about and has not answered yet, with the most nodes of each
  // tree.
  struct Asked {
    LiveSequence* sequence = nullptr;
    uint32_t nodes = 0;
  };
  std::vector<Asked> asked_;
  // What the draft source was waited for in this step: asking, and taking its answer.
  absl::Duration draft_wait_;
  engine::ForwardOutput output_;

  mutable absl::Mutex mutex_;
  WaitingQueue waiting_ ABSL_GUARDED_BY(mutex_);
  // Requests submitted and not yet finished.
  int64_t unfinished_ ABSL_GUARDED_BY(mutex_) = 0;
  // When they are fewer.
  mutable SteadyCondition finished_;
  bool admitting_ ABSL_GUARDED_BY(mutex_) = true;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  // Last: starts when all else is there.
  std::thread worker_;
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SCHEDULER_SCHEDULER_H_
