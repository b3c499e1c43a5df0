#include "tests/bench/draft/traffic.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/verify/drafting/draft_wire.h"
#include "tests/bench/replay/verifier.h"

namespace strata::draft_bench {
namespace {

constexpr size_t kStretch = 48;
constexpr uint32_t kRanked = 8;

TokenId AnyToken(int64_t vocab_size, std::mt19937_64& random) {
  return static_cast<TokenId>(random() % static_cast<uint64_t>(vocab_size));
}

}  // namespace

Text MakeText(std::span<const replay::Row> rows, const TextOptions& options,
              std::mt19937_64& random) {
  Text text;
  text.tokens = rows[random() % rows.size()].prompt;
  text.prompt = text.tokens.size();
  const size_t output =
      options.min_output + random() % (options.max_output - options.min_output + 1);
  std::bernoulli_distribution noisy(options.noise);
  while (text.tokens.size() < text.prompt + output) {
    const std::vector<TokenId>& source = rows[random() % rows.size()].output;
    if (source.empty()) continue;
    const size_t begin = random() % source.size();
    const size_t size =
        std::min({kStretch, source.size() - begin, text.prompt + output - text.tokens.size()});
    for (const TokenId token : std::span(source).subspan(begin, size)) {
      text.tokens.push_back(noisy(random) ? AnyToken(options.vocab_size, random) : token);
    }
  }
  return text;
}

LiveSequence::LiveSequence(uint64_t id, std::string tenant, Text text, int64_t vocab_size)
    : id_(id), tenant_(std::move(tenant)), text_(std::move(text)), vocab_size_(vocab_size) {
  // The first output token comes from prefill.
  known_ = text_.prompt + 1;
}

void LiveSequence::Fill(uint32_t budget, std::mt19937_64& random, v1::SequenceRequest& request) {
  request.set_sequence_id(id_);
  request.set_epoch(epoch_);
  request.set_position(static_cast<uint32_t>(held_));
  const auto fresh = std::span(text_.tokens).subspan(held_, known_ - held_);
  verify::AppendTokens(fresh, request.mutable_tokens());
  if (held_ == 0) {
    request.set_prompt_length(static_cast<uint32_t>(text_.prompt));
    request.set_tenant(tenant_);
  } else {
    request.set_has_feedback(has_feedback_);
    for (const int32_t node : accepted_) request.add_accepted_nodes(static_cast<uint32_t>(node));
    for (size_t i = held_; i < known_; ++i) {
      v1::RowRanking& ranking = *request.add_rankings();
      ranking.set_previous_token(static_cast<uint32_t>(text_.tokens[i >= 2 ? i - 2 : 0]));
      ranking.set_token(static_cast<uint32_t>(text_.tokens[i - 1]));
      ranking.add_next_tokens(static_cast<uint32_t>(text_.tokens[i]));
      // Distinct, and never the first again.
      const auto vocabulary = static_cast<uint64_t>(vocab_size_);
      const uint64_t stride = 1 + random() % (vocabulary / kRanked);
      for (uint64_t k = 1; k < kRanked; ++k) {
        ranking.add_next_tokens(static_cast<uint32_t>(
            (static_cast<uint64_t>(text_.tokens[i]) + k * stride) % vocabulary));
      }
    }
  }
  budget_ = said() ? 0 : budget;
  request.set_node_budget(budget_);
  request.set_close(said());
}

absl::Status LiveSequence::Take(const v1::SequenceAnswer& answer) {
  if (answer.sequence_id() != id_ || answer.epoch() != epoch_) {
    return absl::InternalError(absl::StrCat("the answer is not for sequence ", id_));
  }
  ++steps_;
  switch (answer.status()) {
    case v1::SEQUENCE_STATUS_OK:
      break;
    case v1::SEQUENCE_STATUS_UNKNOWN:
      held_ = 0;
      has_feedback_ = false;
      accepted_.clear();
      // What is gone need not be closed.
      closed_ = said();
      return absl::OkStatus();
    case v1::SEQUENCE_STATUS_EXHAUSTED:
      closed_ = said() && held_ == 0;
      return absl::OkStatus();
    default:
      return absl::InternalError(absl::StrCat(
          "sequence ", id_, ": status ", static_cast<int>(answer.status()), " ", answer.message()));
  }
  if (said()) {
    closed_ = true;
    return absl::OkStatus();
  }
  auto tree = verify::TreeFromProto(answer.tree(), vocab_size_, budget_);
  if (!tree.ok()) return tree.status();
  held_ = known_;
  accepted_ = replay::AcceptedPath(*tree, std::span(text_.tokens).subspan(known_));
  has_feedback_ = true;
  known_ = std::min(known_ + accepted_.size() + 1, text_.tokens.size());
  return absl::OkStatus();
}

void LiveSequence::Rewind(size_t kept) {
  ++epoch_;
  held_ = 0;
  known_ = std::min(known_, text_.prompt + 1 + kept);
  has_feedback_ = false;
  accepted_.clear();
}

}  // namespace strata::draft_bench
