#ifndef STRATA_TESTS_BENCH_DRAFT_TRAFFIC_H_
#define STRATA_TESTS_BENCH_DRAFT_TRAFFIC_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/base/draft_tree.h"
#include "strata/v1/draft.pb.h"
#include "tests/bench/replay/rows.h"

namespace strata::draft_bench {

struct TextOptions {
  int64_t vocab_size = 0;
  // Outputs are of as many tokens, evenly spread.
  size_t min_output = 8;
  size_t max_output = 96;
  // Share of output tokens that are any token instead: without, a few hundred rows played again
  // and again would soon have nothing new for the model tier.
  double noise = 0.05;
};

struct Text {
  std::vector<TokenId> tokens;
  // How many of them are prompt; the rest is what the model says.
  size_t prompt = 0;
};

// A row's prompt, and an output put together from stretches of the rows' outputs. `rows` have
// prompts, and some have outputs.
Text MakeText(std::span<const replay::Row> rows, const TextOptions& options,
              std::mt19937_64& random);

// One sequence as its verifier keeps it: what it says, what the service holds, and what came of the
// last tree. Accepts what agrees with the text, as a model would that says it.
class LiveSequence {
 public:
  LiveSequence(uint64_t id, std::string tenant, Text text, int64_t vocab_size);

  uint64_t id() const { return id_; }
  size_t steps() const { return steps_; }
  // Whether the text is said: the next message closes the sequence.
  bool said() const { return known_ == text_.tokens.size(); }
  // Whether the close was answered.
  bool closed() const { return closed_; }

  // What the next message says of the sequence. Rankings are made up, with the right token first.
  void Fill(uint32_t budget, std::mt19937_64& random, v1::SequenceRequest& request);
  // The answer to it. UNKNOWN and EXHAUSTED are no errors: the next message sends again.
  // INTERNAL for an answer that breaks the contract.
  absl::Status Take(const v1::SequenceAnswer& answer);
  // As when a verifier preempts the sequence and begins anew at `kept` of its output tokens.
  void Rewind(size_t kept);

 private:
  uint64_t id_;
  std::string tenant_;
  Text text_;
  int64_t vocab_size_;
  uint32_t epoch_ = 1;
  // Tokens that the service holds, and that the verifier has.
  size_t held_ = 0;
  size_t known_ = 0;
  uint32_t budget_ = 0;
  std::vector<int32_t> accepted_;
  bool has_feedback_ = false;
  size_t steps_ = 0;
  bool closed_ = false;
};

}  // namespace strata::draft_bench

#endif  // STRATA_TESTS_BENCH_DRAFT_TRAFFIC_H_
