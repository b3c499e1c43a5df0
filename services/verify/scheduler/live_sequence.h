#ifndef STRATA_SERVICES_VERIFY_SCHEDULER_LIVE_SEQUENCE_H_
#define STRATA_SERVICES_VERIFY_SCHEDULER_LIVE_SEQUENCE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/base/draft_tree.h"
#include "common/base/row_ranking.h"
#include "common/tokenizer/tokenizer.h"
#include "services/verify/drafting/draft_source.h"
#include "services/verify/engine/engine.h"
#include "services/verify/scheduler/generation.h"
#include "services/verify/scheduler/pace.h"
#include "services/verify/scheduler/sequence_trace.h"
#include "services/verify/scheduler/stop_matcher.h"

namespace strata::verify {

// One request between admission and its end: its tokens, its KV cache, its next rows,
// and what becomes of their logits. Knows nothing of the other sequences.
// Not thread-safe.
class LiveSequence {
 public:
  // `tokenizer` must outlive it. request.max_tokens fits already. `kv` may hold some of the prompt,
  // not all of it.
  LiveSequence(uint64_t id, GenerationRequest request, std::shared_ptr<GenerationSink> sink,
               std::unique_ptr<engine::KvSequence> kv, const Tokenizer& tokenizer,
               absl::Time arrival);

  uint64_t id() const { return id_; }
  GenerationSink& sink() { return *sink_; }
  engine::KvSequence& kv() { return *kv_; }
  const engine::KvSequence& kv() const { return *kv_; }
  GenerationStats& stats() { return stats_; }
  SequenceTrace& trace() { return trace_; }
  // How it fares among drafts. Without speculation it has none to gain by, and is not asked.
  Lead& lead() { return lead_; }
  bool speculates() const { return request_.speculate; }
  // Whether Verify reads whole rows of logits, not a few blocks of each.
  bool reads_rows() const { return request_.logprobs || !engine::TakesGreatest(request_.sampling); }
  std::span<const TokenId> tokens() const { return tokens_; }
  // Whether the draft source has ever been asked about it.
  bool drafted() const { return drafted_; }

  const std::string& tenant() const { return request_.tenant; }

  // Whether more is to be computed than the last token: the prompt, or after Preempt all of it.
  bool prefilling() const { return output_tokens() == 0 || pending() > 1; }
  // Tokens that are not in the cache: the rest of the prompt, or the last token.
  int64_t pending() const { return static_cast<int64_t>(tokens_.size()) - kv_->length(); }

  // Most nodes of the next tree: no deeper than the tokens that are left, less the one
  // that the model adds itself. 0 while prefilling and if speculation is off.
  uint32_t DraftBudget(uint32_t default_nodes) const;
  // The question to ask of a draft source; valid until the next call that changes this.
  DraftQuery NextQuery(uint32_t budget);
  // The answer, checked by the caller; empty for none.
  void SetTree(DraftTree tree) {
    tree_ = std::move(tree);
    source_nodes_.clear();
  }
  // Of the tree just set, only these nodes (as DraftTree::Keep has them) are verified.
  void KeepNodes(std::span<const int32_t> nodes);
  const DraftTree& tree() const { return tree_; }
  // The tree that Verify took last, empty if there was none, and its nodes that were accepted,
  // root to leaf.
  const DraftTree& verified_tree() const { return verified_tree_; }
  std::span<const int32_t> verified_nodes() const { return verified_nodes_; }

  // The rows of the next forward pass: up to `prefill_rows` of the prompt, or the last
  // token and the draft tree. With `rank_prompt` rows of a prompt that may be drafted for have
  // logits, to be ranked. Valid until Verify.
  engine::SequenceInput PrepareInput(int64_t prefill_rows, bool rank_prompt);
  // Verifies the rows of `output` from `first_row` on, one for each of PrepareInput's logit_rows;
  // keeps the `recycled_tokens` best next tokens of each (of the first 512) for the next query.
  // Touches nothing that other sequences have: they may be verified at the same time. Commit is
  // next.
  void Verify(const engine::ForwardOutput& output, int64_t first_row, int recycled_tokens,
              engine::SamplerScratch& scratch);
  // Commits and takes what Verify accepted: from here on tokens() and finish_reason() are those
  // after this pass. INTERNAL if the engine refuses: nothing is taken.
  absl::Status Commit(engine::Engine& engine);
  // Counts what Verify accepted and passes its tokens to the sink, which whoever waits for the next
  // pass need not wait for. Before the next Verify.
  void Publish();

  // Gives the KV pages back; Resume is next.
  void Preempt(std::unique_ptr<engine::KvSequence> empty);
  // Goes on with `kv`, which holds a part of tokens(): the rest is computed anew, to the same bits.
  void Resume(std::unique_ptr<engine::KvSequence> kv) { kv_ = std::move(kv); }
  // Whether an older request is computing what this one begins with: no prompt rows until then.
  bool follows() const { return follows_; }
  void set_follows(bool follows) { follows_ = follows; }
  // Resume with what others have computed of the prompt meanwhile.
  void CatchUp(std::unique_ptr<engine::KvSequence> kv);
  // Gives the KV pages back. Only Finish may follow.
  void ReleaseCache() { kv_.reset(); }
  // kNone while it goes on.
  FinishReason finish_reason() const { return finish_reason_; }
  // Tells the sink that this was all.
  void Finish(const absl::Status& status);

 private:
  int64_t output_tokens() const {
    return static_cast<int64_t>(tokens_.size() - request_.prompt.size());
  }
  void KeepRankings(const engine::ForwardOutput& output, int64_t first_row, int count);
  // Takes the drawn tokens one by one, into chunk_, until one ends the request.
  void TakeTokens();
  // Counts verified_tree_. `accepted`: the nodes, root to leaf, whose tokens were taken.
  void CountTree(std::span<const int32_t> accepted);
  OutputLogprob LogprobOf(std::span<const float> row, TokenId token) const;

  const uint64_t id_;
  const GenerationRequest request_;
  const std::shared_ptr<GenerationSink> sink_;
  std::unique_ptr<engine::KvSequence> kv_;
  const std::unique_ptr<Tokenizer::Stream> detokenizer_;
  const absl::Time arrival_;
  StopMatcher stop_matcher_;
  engine::TokenHistory history_;
  // Prompt and output.
  std::vector<TokenId> tokens_;
  FinishReason finish_reason_ = FinishReason::kNone;
  GenerationStats stats_;
  SequenceTrace trace_;
  Lead lead_;

  // The draft of this step, and the verdict on that of the step before.
  DraftTree tree_;
  // Where the nodes of tree_ stood in the source's tree; empty: where they stand.
  std::vector<int32_t> source_nodes_;
  DraftTree verified_tree_;
  std::vector<int32_t> verified_nodes_;
  // What Verify took, for Publish.
  GenerationChunk chunk_;
  bool drafted_ = false;
  bool follows_ = false;
  // Whether the draft source was asked for this step's tree.
  bool asked_ = false;
  bool has_feedback_ = false;
  std::vector<int32_t> accepted_nodes_;
  std::vector<RowRanking> rankings_;

  // Rows of this step.
  std::vector<int32_t> rows_;
  std::vector<int32_t> parents_;
  std::vector<int32_t> logit_rows_;
  // What Verify drew from them, for Commit; a log-probability of each token, if they are asked for.
  engine::VerifiedPath drawn_;
  std::vector<OutputLogprob> drawn_logprobs_;
  // Of them, those ahead of the draft tree.
  int64_t chain_rows_ = 0;
  // Of logit_rows_, those ahead of the last token's, which are ranked alone.
  size_t ranked_prompt_rows_ = 0;
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SCHEDULER_LIVE_SEQUENCE_H_
