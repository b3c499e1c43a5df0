#include "services/verify/scheduler/live_sequence.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/steady_clock.h"
#include "services/verify/engine/ranking.h"

namespace strata::verify {
namespace {

// Rows of a step that are ranked for the draft source, which takes 1,024 at most. A tree's first
// nodes are its likeliest.
constexpr size_t kMaxRankedRows = 512;

// Prompt tokens that the detokenizer sees; a character has at most four, special ones show nothing.
constexpr size_t kDetokenizerContext = 16;

// Whatever a draft source says, an index of the statistics.
size_t TierIndex(TierKind tier) {
  return static_cast<size_t>(tier) < kTierKinds ? static_cast<size_t>(tier) : 0;
}

}  // namespace

LiveSequence::LiveSequence(uint64_t id, GenerationRequest request,
                           std::shared_ptr<GenerationSink> sink,
                           std::unique_ptr<engine::KvSequence> kv, const Tokenizer& tokenizer,
                           absl::Time arrival)
    : id_(id),
      request_(std::move(request)),
      sink_(std::move(sink)),
      kv_(std::move(kv)),
      detokenizer_(tokenizer.NewStream(/*skip_special_tokens=*/true)),
      arrival_(arrival),
      stop_matcher_(request_.stop),
      tokens_(request_.prompt),
      trace_(request_.trace, arrival) {
  // The text of a continuation depends on what it continues: the first word of a text has no
  // space before it, and a character may have begun in the prompt.
  const size_t context = std::min(request_.prompt.size(), kDetokenizerContext);
  for (size_t i = request_.prompt.size() - context; i < request_.prompt.size(); ++i) {
    detokenizer_->Push(request_.prompt[i]);
  }
  tokens_.reserve(request_.prompt.size() + static_cast<size_t>(request_.max_tokens));
  history_.AddPrompt(request_.prompt);
  stats_.prompt_tokens = static_cast<uint32_t>(request_.prompt.size());
  stats_.cached_prompt_tokens = static_cast<uint32_t>(kv_->length());
}

uint32_t LiveSequence::DraftBudget(uint32_t default_nodes) const {
  if (!request_.speculate || prefilling() || finish_reason_ != FinishReason::kNone) return 0;
  const int64_t useful = request_.max_tokens - output_tokens() - 1;
  const int64_t wanted = request_.max_nodes.value_or(default_nodes);
  return static_cast<uint32_t>(std::clamp<int64_t>(useful, 0, wanted));
}

DraftQuery LiveSequence::NextQuery(uint32_t budget) {
  DraftQuery query;
  query.sequence_id = id_;
  query.tokens = tokens_;
  query.prompt_length = stats_.prompt_tokens;
  query.node_budget = budget;
  query.has_feedback = has_feedback_;
  query.accepted_nodes = accepted_nodes_;
  query.predicted_tokens = request_.predicted;
  query.rankings = rankings_;
  query.tenant = request_.tenant;
  query.policy = request_.policy;
  query.trace = trace_.OnAsk(budget);
  drafted_ = true;
  asked_ = true;
  return query;
}

void LiveSequence::Preempt(std::unique_ptr<engine::KvSequence> empty) {
  kv_ = std::move(empty);
  KeepNodes({});
  trace_.OnInterrupted();
  ++stats_.preemptions;
}

void LiveSequence::CatchUp(std::unique_ptr<engine::KvSequence> kv) {
  // After Preempt the prompt's tokens have been counted already.
  if (stats_.preemptions == 0) {
    stats_.cached_prompt_tokens += static_cast<uint32_t>(kv->length() - kv_->length());
  }
  Resume(std::move(kv));
}

void LiveSequence::KeepNodes(std::span<const int32_t> nodes) {
  source_nodes_.assign(nodes.begin(), nodes.end());
  tree_.Keep(nodes);
}

engine::SequenceInput LiveSequence::PrepareInput(int64_t prefill_rows, bool rank_prompt) {
  chain_rows_ = prefilling() ? std::min(pending(), prefill_rows) : pending();
  const auto first = tokens_.begin() + kv_->length();
  rows_.assign(first, first + chain_rows_);
  parents_.clear();
  logit_rows_.clear();
  const int32_t last = static_cast<int32_t>(chain_rows_) - 1;
  // A chunk in mid-prompt has nobody to read its logits but who ranks them.
  const bool verifies = chain_rows_ == pending();
  ranked_prompt_rows_ = 0;
  if (rank_prompt && request_.speculate && prefilling()) {
    ranked_prompt_rows_ = static_cast<size_t>(verifies ? last : chain_rows_);
  }
  logit_rows_.resize(ranked_prompt_rows_ + (verifies ? 1 + tree_.tokens.size() : 0));
  const auto verified = logit_rows_.begin() + static_cast<ptrdiff_t>(ranked_prompt_rows_);
  std::iota(logit_rows_.begin(), verified, 0);
  std::iota(verified, logit_rows_.end(), last);
  if (!tree_.empty()) {
    parents_.resize(chain_rows_);
    std::iota(parents_.begin(), parents_.end(), -1);
    for (const int32_t parent : tree_.parents) parents_.push_back(last + 1 + parent);
    rows_.insert(rows_.end(), tree_.tokens.begin(), tree_.tokens.end());
  }
  return {kv_.get(), rows_, parents_, logit_rows_};
}

void LiveSequence::KeepRankings(const engine::ForwardOutput& output, int64_t first_row, int count) {
  // A request without speculation teaches nothing.
  if (!request_.speculate || rankings_.size() >= kMaxRankedRows) return;
  const size_t rows = std::min(logit_rows_.size(), kMaxRankedRows - rankings_.size());
  for (size_t i = 0; i < rows; ++i) {
    RowRanking& ranking = rankings_.emplace_back();
    const auto row_of_pass = static_cast<size_t>(logit_rows_[i]);
    const int32_t parent =
        parents_.empty() ? static_cast<int32_t>(row_of_pass) - 1 : parents_[row_of_pass];
    ranking.token = rows_[row_of_pass];
    if (parent >= 0) {
      ranking.previous_token = rows_[static_cast<size_t>(parent)];
    } else if (kv_->length() > 0) {
      ranking.previous_token = tokens_[static_cast<size_t>(kv_->length()) - 1];
    }
    const int64_t row = first_row + static_cast<int64_t>(i);
    ranking.size = static_cast<uint8_t>(engine::TopTokens(
        output.row(row), output.row_block_max(row), std::span(ranking.next_tokens).first(count)));
  }
}

void LiveSequence::Verify(const engine::ForwardOutput& output, int64_t first_row,
                          int recycled_tokens, engine::SamplerScratch& scratch) {
  drawn_ = {};
  drawn_logprobs_.clear();
  // A step that asked for no drafts adds to what the source has not been told yet.
  if (asked_) rankings_.clear();
  if (recycled_tokens > 0) KeepRankings(output, first_row, recycled_tokens);
  const auto rows = static_cast<int64_t>(logit_rows_.size() - ranked_prompt_rows_);
  // A chunk in mid-prompt.
  if (rows == 0) return;
  first_row += static_cast<int64_t>(ranked_prompt_rows_);
  drawn_ = engine::VerifyTree(tree_.tokens, tree_.parents, output.rows(first_row, rows),
                              output.vocab_size, request_.sampling, history_, tokens_.size(),
                              request_.final_tokens, request_.max_tokens - output_tokens(), scratch,
                              output.rows_block_max(first_row, rows));
  if (!request_.logprobs) return;
  for (size_t i = 0; i < drawn_.tokens.size(); ++i) {
    // The row it was drawn from: that of the token before it.
    const int64_t row = first_row + (i == 0 ? 0 : 1 + drawn_.nodes[i - 1]);
    drawn_logprobs_.push_back(LogprobOf(output.row(row), drawn_.tokens[i]));
  }
}

absl::Status LiveSequence::Commit(engine::Engine& engine) {
  std::vector<int32_t> committed(static_cast<size_t>(chain_rows_));
  std::iota(committed.begin(), committed.end(), 0);
  for (const int32_t node : drawn_.nodes) {
    committed.push_back(static_cast<int32_t>(chain_rows_) + node);
  }
  if (const engine::Status status = engine.Commit(*kv_, committed); !status.ok()) {
    return absl::InternalError(absl::StrCat("cannot commit to the KV cache: ", status.message()));
  }
  if (drawn_.tokens.empty()) return absl::OkStatus();
  if (!prefilling()) ++stats_.steps;
  TakeTokens();
  if (asked_) {
    has_feedback_ = true;
    accepted_nodes_ = drawn_.nodes;
    if (!source_nodes_.empty()) {
      for (int32_t& node : accepted_nodes_) node = source_nodes_[static_cast<size_t>(node)];
    }
    asked_ = false;
  }
  verified_nodes_ = std::move(drawn_.nodes);
  std::swap(verified_tree_, tree_);
  tree_.Clear();
  source_nodes_.clear();
  return absl::OkStatus();
}

void LiveSequence::TakeTokens() {
  size_t taken = 0;
  while (taken < drawn_.tokens.size() && finish_reason_ == FinishReason::kNone) {
    const TokenId token = drawn_.tokens[taken];
    if (request_.logprobs) chunk_.logprobs.push_back(std::move(drawn_logprobs_[taken]));
    tokens_.push_back(token);
    history_.Push(token);
    chunk_.tokens.push_back(token);
    ++taken;
    if (std::find(request_.final_tokens.begin(), request_.final_tokens.end(), token) !=
        request_.final_tokens.end()) {
      finish_reason_ = FinishReason::kEos;
    } else if (stop_matcher_.Push(detokenizer_->Push(token), &chunk_.text)) {
      finish_reason_ = FinishReason::kStop;
    } else if (output_tokens() >= request_.max_tokens) {
      finish_reason_ = FinishReason::kLength;
    }
  }
  if (finish_reason_ == FinishReason::kEos || finish_reason_ == FinishReason::kLength) {
    if (!stop_matcher_.Push(detokenizer_->Finish(), &chunk_.text)) {
      stop_matcher_.Finish(&chunk_.text);
    }
  }
  stats_.output_tokens = static_cast<uint32_t>(output_tokens());
}

void LiveSequence::Publish() {
  if (chunk_.tokens.empty()) return;
  // Nodes behind a stop string were verified, but are no part of the answer.
  CountTree(
      std::span(verified_nodes_).first(std::min(chunk_.tokens.size(), verified_nodes_.size())));
  sink_->OnChunk(std::exchange(chunk_, {}));
}

void LiveSequence::CountTree(std::span<const int32_t> accepted) {
  const DraftTree& tree = verified_tree_;
  if (tree.empty()) return;
  std::vector<size_t> depth(tree.tokens.size());
  size_t levels = 0;
  for (size_t i = 0; i < depth.size(); ++i) {
    depth[i] = tree.parents[i] < 0 ? 0 : depth[tree.parents[i]] + 1;
    levels = std::max(levels, depth[i] + 1);
    ++stats_.drafted_by_tier[TierIndex(tree.tiers[i])];
  }
  if (stats_.drafted_by_position.size() < levels) {
    stats_.drafted_by_position.resize(levels);
    stats_.accepted_by_position.resize(levels);
  }
  for (size_t d = 0; d < levels; ++d) ++stats_.drafted_by_position[d];
  stats_.drafted += tree.tokens.size();
  stats_.accepted += accepted.size();
  for (size_t d = 0; d < accepted.size(); ++d) {
    ++stats_.accepted_by_position[d];
    ++stats_.accepted_by_tier[TierIndex(tree.tiers[accepted[d]])];
  }
}

OutputLogprob LiveSequence::LogprobOf(std::span<const float> row, TokenId token) const {
  OutputLogprob out;
  out.token = {token, engine::LogProbability(row, token)};
  if (request_.top_logprobs > 0) {
    out.top = engine::TopLogProbabilities(row, request_.top_logprobs);
  }
  return out;
}

void LiveSequence::Finish(const absl::Status& status) {
  stats_.total_time = SteadyNow() - arrival_;
  trace_.OnInterrupted();
  sink_->OnFinish(status, status.ok() ? finish_reason_ : FinishReason::kNone, stats_);
}

}  // namespace strata::verify
