#include "tests/verify/fake_engine.h"

#include <algorithm>
#include <new>
#include <utility>

namespace strata::verify {
namespace {

uint64_t Mix(uint64_t x) {  // SplitMix64
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

engine::Status Bad(const char* what) { return {engine::ErrorCode::kInvalidArgument, what}; }

class LetterStream final : public Tokenizer::Stream {
 public:
  std::string Push(TokenId id) override {
    return id == kFakeEos ? "" : std::string(1, static_cast<char>('a' + id % 26));
  }
  std::string Finish() override { return ""; }
};

}  // namespace

void FakeLogits(std::span<const int32_t> path, std::span<float> logits) {
  uint64_t state = 1;
  for (const int32_t token : path.last(std::min<size_t>(3, path.size()))) {
    state = Mix(state ^ static_cast<uint64_t>(token + 1));
  }
  for (size_t i = 0; i < logits.size(); ++i) {
    logits[i] = static_cast<float>(Mix(state + i) >> 40) / (1 << 21) - 4.0f;
  }
  uint64_t all = 1;
  for (const int32_t token : path) all = Mix(all ^ static_cast<uint64_t>(token + 1));
  for (size_t i = 0; i < logits.size(); ++i) {
    logits[i] += static_cast<float>(Mix(all + i) >> 56) / (1 << 16);
  }
}

// A full page with all tokens up to its end. Whose pages are free is counted, not which.
struct FakeEngine::Page {
  std::vector<int32_t> path;
  int sequences = 0;
  int handles = 0;
};

struct FakeEngine::Handle final : engine::KvPage {
  Handle(FakeEngine* owner, std::shared_ptr<Page> page) : owner(owner), page(std::move(page)) {
    ++this->page->handles;
  }
  ~Handle() override {
    if (--page->handles == 0 && page->sequences == 0) --owner->kept_pages_;
  }
  bool in_use() const override { return page->sequences > 0; }
  FakeEngine* const owner;
  const std::shared_ptr<Page> page;
};

struct FakeEngine::Kv final : engine::KvSequence {
  explicit Kv(FakeEngine* owner) : owner(owner) {}
  ~Kv() override {
    owner->used_pages_ -= pages;
    for (const std::shared_ptr<Page>& page : shared) {
      if (page == nullptr || --page->sequences > 0) continue;
      --owner->used_pages_;
      if (page->handles > 0) ++owner->kept_pages_;
    }
  }
  int64_t shared_count() const {
    return std::count_if(shared.begin(), shared.end(), [](const auto& page) { return !!page; });
  }
  int64_t length() const override { return static_cast<int64_t>(committed.size()); }
  FakeEngine* const owner;
  std::vector<int32_t> committed;
  std::vector<int32_t> rows;
  std::vector<int32_t> parents;
  // Its pages that others hold too, by index; null: none do.
  std::vector<std::shared_ptr<Page>> shared;
  // Pages beside those.
  int64_t pages = 0;
  bool broken = false;
};

FakeEngine::FakeEngine(int64_t pages, int64_t max_sequence_length) {
  info_.architecture = "Fake";
  info_.vocab_size = kFakeVocab;
  info_.max_sequence_length = max_sequence_length;
  info_.device = "cpu";
  info_.kv_page_tokens = 4;
  info_.kv_pages_total = pages;
  info_.eos_token_ids = {kFakeEos};
  info_.exact = true;
}

int64_t FakeEngine::Pages(int64_t tokens) const {
  return (tokens + info_.kv_page_tokens - 1) / info_.kv_page_tokens;
}

std::unique_ptr<engine::KvSequence> FakeEngine::NewSequence(
    std::span<const engine::KvPage* const> prefix) {
  if (throw_on_new_sequence_.exchange(false)) throw std::bad_alloc();
  auto kv = std::make_unique<Kv>(this);
  for (const engine::KvPage* handle : prefix) {
    const std::shared_ptr<Page>& page = static_cast<const Handle*>(handle)->page;
    const std::vector<int32_t>& path = page->path;
    kv->broken |= path.size() != kv->committed.size() + info_.kv_page_tokens ||
                  !std::equal(kv->committed.begin(), kv->committed.end(), path.begin());
    kv->committed = path;
    kv->shared.push_back(page);
    if (page->sequences++ > 0) continue;
    ++used_pages_;
    --kept_pages_;
  }
  return kv;
}

std::unique_ptr<engine::KvPage> FakeEngine::SharePage(const engine::KvSequence& sequence,
                                                      int64_t index) {
  // Only counters change: to whoever holds the sequence it stays what it was.
  Kv& kv = const_cast<Kv&>(static_cast<const Kv&>(sequence));
  const int64_t end = (index + 1) * info_.kv_page_tokens;
  if (index < 0 || end > kv.length()) return nullptr;
  if (static_cast<int64_t>(kv.shared.size()) <= index) kv.shared.resize(index + 1);
  std::shared_ptr<Page>& page = kv.shared[index];
  if (page == nullptr) {
    page = std::make_shared<Page>();
    page->path.assign(kv.committed.begin(), kv.committed.begin() + end);
    page->sequences = 1;
    --kv.pages;
  }
  return std::make_unique<Handle>(this, page);
}

engine::Status FakeEngine::Forward(std::span<const engine::SequenceInput> inputs,
                                   engine::ForwardOutput& output) {
  if (throw_once_.exchange(false)) throw std::bad_alloc();
  int64_t more = 0;
  for (const engine::SequenceInput& input : inputs) {
    const Kv& kv = static_cast<const Kv&>(*input.sequence);
    if (kv.broken) return Bad("the prefix is made of pages that do not belong together");
    if (input.tokens.empty()) return Bad("no rows");
    if (refuse_trees_ && !input.parents.empty()) {
      return {engine::ErrorCode::kResourceExhausted, "no memory for a tree"};
    }
    const int64_t end = kv.length() + static_cast<int64_t>(input.tokens.size());
    if (end > info_.max_sequence_length) return Bad("sequence too long");
    if (!input.parents.empty() && input.parents.size() != input.tokens.size()) {
      return Bad("parents and tokens differ in length");
    }
    more += Pages(end) - kv.shared_count() - kv.pages;
  }
  if (more > kv_pages_free()) return {engine::ErrorCode::kResourceExhausted, "no free pages"};
  widest_ = std::max(widest_, inputs.size());
  size_t logit_rows = 0;
  for (const engine::SequenceInput& input : inputs) logit_rows += input.logit_rows.size();
  most_logit_rows_ = std::max(most_logit_rows_, logit_rows);
  output.vocab_size = kFakeVocab;
  output.logits.clear();
  output.block_max.clear();
  for (const engine::SequenceInput& input : inputs) {
    Kv& kv = static_cast<Kv&>(*input.sequence);
    kv.rows.assign(input.tokens.begin(), input.tokens.end());
    kv.parents.assign(input.parents.begin(), input.parents.end());
    for (size_t r = kv.parents.size(); r < kv.rows.size(); ++r) {
      kv.parents.push_back(static_cast<int32_t>(r) - 1);
    }
    used_pages_ -= kv.pages;
    kv.pages = Pages(kv.length() + static_cast<int64_t>(kv.rows.size())) - kv.shared_count();
    rows_ += static_cast<int64_t>(kv.rows.size());
    used_pages_ += kv.pages;
    for (const int32_t row : input.logit_rows) {
      std::vector<int32_t> tail;
      for (int32_t r = row; r >= 0; r = kv.parents[r]) tail.push_back(kv.rows[r]);
      std::vector<int32_t> path = kv.committed;
      path.insert(path.end(), tail.rbegin(), tail.rend());
      output.logits.resize(output.logits.size() + kFakeVocab);
      FakeLogits(path, std::span(output.logits).last(kFakeVocab));
      output.block_max.resize(output.block_max.size() + engine::LogitBlocks(kFakeVocab));
      engine::BlockMaxima(
          std::span(output.logits).last(kFakeVocab),
          output.block_max.data() + output.block_max.size() - engine::LogitBlocks(kFakeVocab));
    }
  }
  return {};
}

engine::Status FakeEngine::Commit(engine::KvSequence& sequence, std::span<const int32_t> rows) {
  if (commits_left_ >= 0 && commits_left_-- == 0) return Bad("this commit is refused");
  Kv& kv = static_cast<Kv&>(sequence);
  int32_t parent = -1;
  for (const int32_t row : rows) {
    if (row < 0 || row >= static_cast<int32_t>(kv.rows.size()) || kv.parents[row] != parent) {
      return Bad("the rows are no path");
    }
    kv.committed.push_back(kv.rows[row]);
    parent = row;
  }
  used_pages_ -= kv.pages;
  kv.pages = Pages(kv.length()) - kv.shared_count();
  used_pages_ += kv.pages;
  return {};
}

std::vector<TokenId> FakeTokenizer::Encode(std::string_view text, bool) const {
  std::vector<TokenId> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c) % 26);
  return ids;
}

std::string FakeTokenizer::Decode(const std::vector<TokenId>& ids, bool) const {
  LetterStream stream;
  std::string text;
  for (const TokenId id : ids) text += stream.Push(id);
  return text;
}

std::unique_ptr<Tokenizer::Stream> FakeTokenizer::NewStream(bool) const {
  return std::make_unique<LetterStream>();
}

}  // namespace strata::verify
