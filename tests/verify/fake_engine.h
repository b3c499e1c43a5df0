#ifndef STRATA_TESTS_VERIFY_FAKE_ENGINE_H_
#define STRATA_TESTS_VERIFY_FAKE_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/tokenizer/tokenizer.h"
#include "services/verify/engine/engine.h"

namespace strata::verify {

// Several blocks of logits (ranking.h), the last not whole.
inline constexpr int64_t kFakeVocab = 150;
inline constexpr int32_t kFakeEos = 63;

// The logits after `path`: pseudo-random, from its last three tokens, so that text
// repeats itself and drafts from context hit; all others shift them a little.
void FakeLogits(std::span<const int32_t> path, std::span<float> logits);

// A model whose logits depend on a row's path alone, with the engine's contract for
// rows, parents, commits and pages. Fails the test (by an error) if a caller breaks it: also one
// that gives a sequence pages which belong to different beginnings, or to another place.
class FakeEngine final : public engine::Engine {
 public:
  explicit FakeEngine(int64_t pages = 1024, int64_t max_sequence_length = 4096);
  void set_exact(bool exact) { info_.exact = exact; }
  const engine::EngineInfo& info() const override { return info_; }
  int64_t kv_pages_free() const override {
    return info_.kv_pages_total - used_pages_ - kept_pages_;
  }
  int64_t kv_pages_kept() const override { return kept_pages_; }
  using engine::Engine::NewSequence;
  std::unique_ptr<engine::KvSequence> NewSequence(
      std::span<const engine::KvPage* const> prefix) override;
  std::unique_ptr<engine::KvPage> SharePage(const engine::KvSequence& sequence,
                                            int64_t index) override;
  engine::Status Forward(std::span<const engine::SequenceInput> inputs,
                         engine::ForwardOutput& output) override;
  engine::Status Commit(engine::KvSequence& sequence, std::span<const int32_t> rows) override;

  // Largest number of sequences, and of rows with logits, in one pass so far.
  size_t widest() const { return widest_; }
  size_t most_logit_rows() const { return most_logit_rows_; }
  // The next pass throws, as a library that is out of memory does.
  void ThrowOnce() { throw_once_ = true; }
  // The next sequence cannot be made: that throws, too.
  void ThrowOnNewSequence() { throw_on_new_sequence_ = true; }
  // Passes with a draft tree fail, as they do where there is no memory for a tree's logits.
  void RefuseTrees() { refuse_trees_ = true; }
  // The commit after so many others is refused.
  void RefuseCommitAfter(int commits) { commits_left_ = commits; }
  // Rows computed so far.
  int64_t rows() const { return rows_; }

 private:
  struct Kv;
  struct Page;
  struct Handle;
  int64_t Pages(int64_t tokens) const;
  engine::EngineInfo info_;
  // Read by kv_pages_free() and kv_pages_kept() from any thread.
  std::atomic<int64_t> used_pages_ = 0;
  std::atomic<int64_t> kept_pages_ = 0;
  std::atomic<int64_t> rows_ = 0;
  std::atomic<bool> throw_once_ = false;
  std::atomic<bool> throw_on_new_sequence_ = false;
  std::atomic<bool> refuse_trees_ = false;
  std::atomic<int> commits_left_ = -1;
  size_t widest_ = 0;
  size_t most_logit_rows_ = 0;
};

// Id i is one letter: 'a' + i % 26. kFakeEos has no text.
class FakeTokenizer : public Tokenizer {
 public:
  std::vector<TokenId> Encode(std::string_view text, bool add_special_tokens) const override;
  std::string Decode(const std::vector<TokenId>& ids, bool skip_special_tokens) const override;
  std::unique_ptr<Stream> NewStream(bool skip_special_tokens) const override;
  int64_t vocab_size() const override { return kFakeVocab; }
  TokenId TokenToId(std::string_view token) const override { return -1; }
  const std::string& fingerprint() const override { return fingerprint_; }

 private:
  const std::string fingerprint_ = std::string(32, 'f');
};

}  // namespace strata::verify

#endif  // STRATA_TESTS_VERIFY_FAKE_ENGINE_H_
