#include "common/tokenizer/tokenizer.h"

#include <xxhash.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "common/tokenizer/added_vocabulary.h"
#include "common/tokenizer/bpe.h"
#include "common/tokenizer/byte_level.h"
#include "common/tokenizer/decoder.h"
#include "common/tokenizer/json.h"
#include "common/tokenizer/normalizer.h"
#include "common/tokenizer/post_processor.h"
#include "common/tokenizer/pre_tokenizer.h"
#include "common/tokenizer/strings.h"
#include "common/tokenizer/utf8.h"
#include "common/tokenizer/word_cache.h"

namespace strata {
namespace {

using tokenizer::AddedVocabulary;
using tokenizer::BpeModel;
using tokenizer::Decoder;
using tokenizer::Find;
using tokenizer::Json;
using tokenizer::Normalizer;
using tokenizer::Piece;
using tokenizer::PostProcessor;
using tokenizer::PreTokenizer;

// What one Encode call works in; kept for the next one, with its word cache.
struct Workspace {
  std::string text;
  std::string mapped;
  tokenizer::Arena arena;
  std::vector<AddedVocabulary::Part> raw_parts;
  std::vector<AddedVocabulary::Part> normalized_parts;
  std::vector<Piece> pieces;
  BpeModel::Scratch scratch;
  tokenizer::WordCache cache;
};

// The pipeline of tokenizer.json: added tokens, normalizer, pre_tokenizer, model,
// post_processor; and back: decoder.
class HfTokenizer : public Tokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(const Json& json);

  std::vector<TokenId> Encode(std::string_view text, bool add_special_tokens) const override;
  std::string Decode(const std::vector<TokenId>& ids, bool skip_special_tokens) const override;
  std::unique_ptr<Stream> NewStream(bool skip_special_tokens) const override;
  int64_t vocab_size() const override {
    return std::max<int64_t>(model_->max_id(), added_.max_id()) + 1;
  }
  TokenId TokenToId(std::string_view token) const override {
    const TokenId id = added_.Find(token);
    return id >= 0 ? id : model_->Find(token);
  }
  const std::string& fingerprint() const override { return fingerprint_; }

 private:
  class DecodeStream;
  // More workspaces than this are not kept: each may hold some megabytes.
  static constexpr size_t kMaxIdleWorkspaces = 32;

  explicit HfTokenizer(AddedVocabulary added) : added_(std::move(added)) {}

  std::unique_ptr<Workspace> TakeWorkspace() const ABSL_LOCKS_EXCLUDED(mutex_);
  void ReturnWorkspace(std::unique_ptr<Workspace> workspace) const ABSL_LOCKS_EXCLUDED(mutex_);
  void EncodePlain(std::string_view text, bool at_start, Workspace* work,
                   std::vector<TokenId>* out) const;
  void EncodePiece(const Piece& piece, Workspace* work, std::vector<TokenId>* out) const;
  void EncodeWord(std::string_view word, Workspace* work, std::vector<TokenId>* out) const;
  // The token's text for the decoder; nullptr if it is unknown or to be skipped.
  const std::string* DecodedText(TokenId id, bool skip_special_tokens) const;
  void ComputeFingerprint(const Json& json);

  AddedVocabulary added_;
  std::unique_ptr<BpeModel> model_;
  std::unique_ptr<Normalizer> normalizer_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  std::unique_ptr<Decoder> decoder_;
  PostProcessor post_processor_;
  std::string fingerprint_;
  mutable absl::Mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_ ABSL_GUARDED_BY(mutex_);
};

class HfTokenizer::DecodeStream : public Tokenizer::Stream {
 public:
  DecodeStream(const HfTokenizer* owner, bool skip_special_tokens)
      : owner_(owner), skip_special_tokens_(skip_special_tokens), run_(*owner->decoder_) {}
  std::string Push(TokenId id) override {
    const std::string* token = owner_->DecodedText(id, skip_special_tokens_);
    if (token == nullptr || finished_) return "";
    run_.Token(*token);
    return run_.Take();
  }
  std::string Finish() override {
    if (finished_) return "";
    finished_ = true;
    run_.Finish();
    return run_.Take();
  }

 private:
  const HfTokenizer* owner_;
  bool skip_special_tokens_;
  bool finished_ = false;
  tokenizer::DecodeRun run_;
};

absl::StatusOr<std::unique_ptr<Tokenizer>> HfTokenizer::Create(const Json& json) {
  const Json* model_config = Find(json, "model");
  if (model_config == nullptr || !model_config->is_object()) {
    return absl::InvalidArgumentError("there is no object \"model\"");
  }
  auto model = BpeModel::Create(*model_config);
  if (!model.ok()) return model.status();
  auto normalizer = Normalizer::Create(Find(json, "normalizer"));
  if (!normalizer.ok()) return normalizer.status();
  auto pre_tokenizer = PreTokenizer::Create(Find(json, "pre_tokenizer"));
  if (!pre_tokenizer.ok()) return pre_tokenizer.status();
  auto post_processor = tokenizer::ParsePostProcessor(Find(json, "post_processor"));
  if (!post_processor.ok()) return post_processor.status();
  auto decoder = Decoder::Create(Find(json, "decoder"));
  if (!decoder.ok()) return decoder.status();
  auto added = AddedVocabulary::Create(Find(json, "added_tokens"), **model, **normalizer);
  if (!added.ok()) return added.status();

  std::unique_ptr<HfTokenizer> result(new HfTokenizer(*std::move(added)));
  result->model_ = *std::move(model);
  result->normalizer_ = *std::move(normalizer);
  result->pre_tokenizer_ = *std::move(pre_tokenizer);
  result->post_processor_ = *std::move(post_processor);
  result->decoder_ = *std::move(decoder);
  if (result->vocab_size() == 0) return absl::InvalidArgumentError("the vocabulary is empty");
  for (const auto* ids : {&result->post_processor_.prefix, &result->post_processor_.suffix}) {
    for (const TokenId id : *ids) {
      if (id < result->vocab_size()) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "post_processor adds the id ", id, ", but ids end at ", result->vocab_size() - 1));
    }
  }
  result->ComputeFingerprint(json);
  return result;
}

void HfTokenizer::ComputeFingerprint(const Json& json) {
  std::string canonical = "strata tokenizer 1\n";
  // nlohmann::json keeps keys sorted, so the dump does not depend on the file's order.
  for (const char* key : {"normalizer", "pre_tokenizer"}) {
    const Json* part = Find(json, key);
    absl::StrAppend(&canonical, key, "=", part == nullptr ? "null" : part->dump(), "\n");
  }
  absl::StrAppend(&canonical, model_->Canonical(), "\n", added_.Canonical());
  const XXH128_hash_t hash = XXH3_128bits(canonical.data(), canonical.size());
  fingerprint_ = absl::StrFormat("%016x%016x", hash.high64, hash.low64);
}

std::unique_ptr<Workspace> HfTokenizer::TakeWorkspace() const {
  {
    absl::MutexLock lock(&mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Workspace> workspace = std::move(idle_.back());
      idle_.pop_back();
      return workspace;
    }
  }
  return std::make_unique<Workspace>();
}

void HfTokenizer::ReturnWorkspace(std::unique_ptr<Workspace> workspace) const {
  absl::MutexLock lock(&mutex_);
  if (idle_.size() < kMaxIdleWorkspaces) idle_.push_back(std::move(workspace));
}

std::vector<TokenId> HfTokenizer::Encode(std::string_view text, bool add_special_tokens) const {
  std::unique_ptr<Workspace> work = TakeWorkspace();
  if (tokenizer::ValidUtf8Prefix(text) != text.size()) {
    work->text.clear();
    tokenizer::AppendLossyUtf8(text, &work->text);
    text = work->text;
  }
  std::vector<TokenId> out;
  out.reserve(text.size() / 4 + 8);
  if (add_special_tokens) out = post_processor_.prefix;
  work->raw_parts.clear();
  added_.Split(text, /*normalized=*/false, &work->raw_parts);
  for (const AddedVocabulary::Part& part : work->raw_parts) {
    if (part.id >= 0) {
      out.push_back(part.id);
    } else {
      EncodePlain(text.substr(part.begin, part.end - part.begin), part.begin == 0, work.get(),
                  &out);
    }
  }
  if (add_special_tokens) {
    out.insert(out.end(), post_processor_.suffix.begin(), post_processor_.suffix.end());
  }
  ReturnWorkspace(std::move(work));
  return out;
}

void HfTokenizer::EncodePlain(std::string_view text, bool at_start, Workspace* work,
                              std::vector<TokenId>* out) const {
  work->arena.Clear();
  if (!normalizer_->identity()) {
    std::string normalized(text);
    normalizer_->Apply(&normalized);
    text = work->arena.Keep(std::move(normalized));
  }
  if (text.empty()) return;
  if (!added_.has_normalized()) {
    EncodePiece({text, at_start}, work, out);
    return;
  }
  work->normalized_parts.clear();
  added_.Split(text, /*normalized=*/true, &work->normalized_parts);
  for (const AddedVocabulary::Part& part : work->normalized_parts) {
    if (part.id >= 0) {
      out->push_back(part.id);
    } else {
      EncodePiece({text.substr(part.begin, part.end - part.begin), at_start && part.begin == 0},
                  work, out);
    }
  }
}

void HfTokenizer::EncodePiece(const Piece& piece, Workspace* work,
                              std::vector<TokenId>* out) const {
  work->pieces.clear();
  pre_tokenizer_->Cut(piece, &work->arena, &work->pieces);
  for (const Piece& word : work->pieces) EncodeWord(word.text, work, out);
}

void HfTokenizer::EncodeWord(std::string_view word, Workspace* work,
                             std::vector<TokenId>* out) const {
  const bool cached = tokenizer::WordCache::Takes(word);
  if (cached && work->cache.Append(word, out)) return;
  std::string_view symbols = word;
  if (pre_tokenizer_->maps_bytes()) {
    work->mapped.clear();
    tokenizer::AppendByteLevel(word, &work->mapped);
    symbols = work->mapped;
  }
  const size_t before = out->size();
  model_->Tokenize(symbols, &work->scratch, out);
  if (cached) work->cache.Add(word, absl::MakeConstSpan(*out).subspan(before));
}

const std::string* HfTokenizer::DecodedText(TokenId id, bool skip_special_tokens) const {
  const std::string* text = added_.Text(id);
  if (text == nullptr) text = model_->Text(id);
  if (text != nullptr && skip_special_tokens && added_.IsSpecial(*text)) return nullptr;
  return text;
}

std::string HfTokenizer::Decode(const std::vector<TokenId>& ids, bool skip_special_tokens) const {
  tokenizer::DecodeRun run(*decoder_);
  for (const TokenId id : ids) {
    const std::string* token = DecodedText(id, skip_special_tokens);
    if (token != nullptr) run.Token(*token);
  }
  run.Finish();
  return run.Take();
}

std::unique_ptr<Tokenizer::Stream> HfTokenizer::NewStream(bool skip_special_tokens) const {
  return std::make_unique<DecodeStream>(this, skip_special_tokens);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& model_dir) {
  const std::string path = absl::StrCat(model_dir, "/tokenizer.json");
  // The parts check every access; this is for what a library may still throw.
  try {
    auto json = tokenizer::ReadJsonFile(path);
    if (!json.ok()) return json.status();
    auto result = HfTokenizer::Create(*json);
    if (!result.ok()) {
      return absl::Status(result.status().code(),
                          absl::StrCat(path, ": ", result.status().message()));
    }
    return result;
  } catch (const std::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", e.what()));
  }
}

}  // namespace strata
