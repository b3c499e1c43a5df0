#include "tests/bench/replay/player.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "common/base/row_ranking.h"
#include "tests/bench/replay/verifier.h"

namespace strata::replay {
namespace {

using draft::SequenceAnswer;
using draft::SequenceUpdate;

// One sequence: what is known to the drafter, and what the last step made of its tree.
class LiveRow {
 public:
  LiveRow(const Row& row, uint64_t sequence_id) : row_(&row), sequence_id_(sequence_id) {
    fresh_ = row.prompt;
    fresh_.push_back(row.output.front());
    produced_ = 1;
  }

  const Row& row() const { return *row_; }
  bool ended() const { return produced_ == row_->output.size(); }

  // The next message. It refers to this, which must not move or change until it is answered.
  SequenceUpdate Update(const PlayOptions& options) const {
    SequenceUpdate update;
    update.sequence_id = sequence_id_;
    update.epoch = 1;
    update.position = position_;
    update.tokens = fresh_;
    update.policy = options.policy;
    if (position_ == 0) {
      update.prompt_length = static_cast<uint32_t>(row_->prompt.size());
      if (options.send_predicted) update.predicted_tokens = row_->predicted;
    } else {
      update.has_feedback = true;
      update.accepted_nodes = accepted_;
      if (options.send_rankings) update.rankings = rankings_;
    }
    if (ended()) {
      update.close = true;
    } else {
      update.node_budget = options.budget;
    }
    return update;
  }

  // Verifies the tree that answered Update.
  void Step(const DraftTree& tree, const PlayOptions& options, Statistics& statistics) {
    const std::span<const TokenId> rest = std::span(row_->output).subspan(produced_);
    accepted_ = AcceptedPath(tree, rest);
    const size_t emitted = std::min(accepted_.size() + 1, rest.size());
    statistics.AddStep(row_->category, tree, accepted_, emitted);
    if (options.on_step) options.on_step(*row_, tree, accepted_);
    position_ += static_cast<uint32_t>(fresh_.size());
    fresh_.assign(rest.begin(), rest.begin() + static_cast<ptrdiff_t>(emitted));
    CollectRankings(emitted);
    produced_ += emitted;
  }

 private:
  // The model's rankings after the rows on the accepted path: those that gave the tokens emitted.
  void CollectRankings(size_t emitted) {
    rankings_.clear();
    const size_t end = std::min(produced_ + emitted, row_->rankings.size());
    for (size_t j = produced_; j < end; ++j) {
      const std::vector<TokenId>& ranked = row_->rankings[j];
      RowRanking& ranking = rankings_.emplace_back();
      ranking.token = row_->output[j - 1];
      ranking.previous_token = j >= 2 ? row_->output[j - 2] : row_->prompt.back();
      ranking.size = static_cast<uint8_t>(ranked.size());
      std::copy(ranked.begin(), ranked.end(), ranking.next_tokens.begin());
    }
  }

  const Row* row_;
  uint64_t sequence_id_;
  // Tokens that the drafter holds, and those it is sent next.
  uint32_t position_ = 0;
  std::vector<TokenId> fresh_;
  // Tokens of the output that are in either.
  size_t produced_ = 0;
  std::vector<int32_t> accepted_;
  std::vector<RowRanking> rankings_;
};

void AddTime(const DraftTime& time, bool steady, Statistics& statistics) {
  statistics.draft_us.Add(time.total_us);
  if (steady) statistics.steady_draft_us.Add(time.total_us);
  if (time.learn_us.has_value()) statistics.learn_us.Add(*time.learn_us);
  if (time.service_us.has_value()) {
    statistics.service_us.Add(*time.service_us);
    statistics.rpc_us.Add(std::max(0.0, time.total_us - *time.service_us));
  }
}

// The rows that are played, one after another.
class RowQueue {
 public:
  RowQueue(std::span<const Row> rows, Statistics& statistics)
      : rows_(rows), statistics_(statistics) {}

  // Null when there are no more.
  const Row* Next() {
    while (next_ < rows_.size()) {
      const Row& row = rows_[next_++];
      if (row.output.size() >= kMinOutputTokens) {
        statistics_.AddRow(row.category);
        return &row;
      }
      ++statistics_.skipped_rows;
    }
    return nullptr;
  }

 private:
  const std::span<const Row> rows_;
  Statistics& statistics_;
  size_t next_ = 0;
};

}  // namespace

absl::Status Play(std::span<const Row> rows, const PlayOptions& options, DraftDriver& driver,
                  Statistics& statistics) {
  RowQueue queue(rows, statistics);
  std::vector<LiveRow> ending, live;
  std::vector<SequenceUpdate> updates;
  std::vector<SequenceAnswer> answers;
  uint64_t next_id = 1;
  while (true) {
    // What ended goes with the next message, ahead of what begins in its place: the model tier then
    // knows it.
    const auto ended = std::stable_partition(live.begin(), live.end(),
                                             [](const LiveRow& row) { return !row.ended(); });
    ending.assign(std::make_move_iterator(ended), std::make_move_iterator(live.end()));
    live.erase(ended, live.end());
    bool steady = ending.empty();
    while (live.size() < options.batch) {
      const Row* row = queue.Next();
      if (row == nullptr) break;
      live.emplace_back(*row, next_id++);
      steady = false;
    }
    if (ending.empty() && live.empty()) return absl::OkStatus();

    updates.clear();
    for (const LiveRow& row : ending) updates.push_back(row.Update(options));
    for (const LiveRow& row : live) updates.push_back(row.Update(options));
    DraftTime time;
    absl::Status status = driver.Draft(updates, answers, time);
    if (!status.ok()) return status;
    if (!live.empty()) AddTime(time, steady, statistics);
    for (size_t i = 0; i < live.size(); ++i) {
      live[i].Step(answers[ending.size() + i].tree, options, statistics);
    }
  }
}

}  // namespace strata::replay
