#include "common/tokenizer/bpe.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/tokenizer/strings.h"
#include "common/tokenizer/utf8.h"

namespace strata::tokenizer {
namespace {

constexpr absl::string_view kWhere = "model";
constexpr uint32_t kNoRank = std::numeric_limits<uint32_t>::max();
// Up to here a scan for the lowest rank beats a heap: no allocation, one cache line or two.
constexpr size_t kShortWord = 24;
constexpr char32_t kTableEnd = 0x800;
// Ids beyond this multiple of the vocabulary (plus slack) are taken for damage.
constexpr int64_t kMaxGap = 1 << 20;

uint64_t PairKey(TokenId left, TokenId right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

bool Later(const BpeModel::Scratch::Candidate& a, const BpeModel::Scratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

void AppendInt(int64_t value, std::string* out) {
  for (int i = 0; i < 8; ++i) out->push_back(static_cast<char>(value >> (8 * i)));
}

// The two sides of a merge, written as "left right" or ["left", "right"].
std::optional<std::pair<std::string_view, std::string_view>> SplitMerge(const Json& merge) {
  if (merge.is_string()) {
    const std::string_view text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
      return std::nullopt;
    }
    return std::pair(text.substr(0, space), text.substr(space + 1));
  }
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return std::pair<std::string_view, std::string_view>(merge[0].get_ref<const std::string&>(),
                                                         merge[1].get_ref<const std::string&>());
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<std::unique_ptr<BpeModel>> BpeModel::Create(const Json& config) {
  // Old files leave out the type; a BPE model is known by its merges.
  auto type =
      StringOr(config, "type", tokenizer::Find(config, "merges") != nullptr ? "BPE" : "", kWhere);
  if (!type.ok()) return type.status();
  if (*type != "BPE") {
    return absl::UnimplementedError(absl::StrCat("model type \"", *type, "\" (known: BPE)"));
  }
  std::unique_ptr<BpeModel> model(new BpeModel());
  if (absl::Status read = model->ReadVocabulary(config); !read.ok()) return read;
  if (absl::Status read = model->ReadMerges(config); !read.ok()) return read;
  if (absl::Status read = model->ReadFlags(config); !read.ok()) return read;
  return model;
}

absl::Status BpeModel::ReadVocabulary(const Json& config) {
  const Json* vocabulary = tokenizer::Find(config, "vocab");
  if (vocabulary == nullptr || !vocabulary->is_object()) {
    return absl::InvalidArgumentError("model lacks \"vocab\", an object of token: id");
  }
  const int64_t limit = static_cast<int64_t>(vocabulary->size()) * 4 + kMaxGap;
  TokenId max_id = -1;
  for (const auto& [text, value] : vocabulary->items()) {
    auto id = Id(value, absl::StrCat("model.vocab[\"", text, "\"]"));
    if (!id.ok()) return id.status();
    if (*id > limit) {
      return absl::InvalidArgumentError(absl::StrCat("model.vocab[\"", text, "\"] is ", *id,
                                                     ", far above the ", vocabulary->size(),
                                                     " tokens there are"));
    }
    max_id = std::max(max_id, *id);
  }
  texts_.resize(static_cast<size_t>(max_id) + 1);
  for (const auto& [text, value] : vocabulary->items()) {
    Slot& slot = texts_[value.get<size_t>()];
    if (slot.used) {
      return absl::InvalidArgumentError(absl::StrCat("model.vocab gives the id ", value.dump(),
                                                     " to \"", slot.text, "\" and \"", text, "\""));
    }
    slot = {text, true};
  }
  ids_.reserve(vocabulary->size());
  for (size_t id = 0; id < texts_.size(); ++id) {
    if (texts_[id].used) ids_.emplace(texts_[id].text, static_cast<TokenId>(id));
  }
  character_ids_.resize(kTableEnd);
  for (char32_t c = 0; c < kTableEnd; ++c) {
    std::string text;
    AppendUtf8(c, &text);
    character_ids_[c] = Find(text);
  }
  byte_ids_.resize(256);
  for (int byte = 0; byte < 256; ++byte) byte_ids_[byte] = Find(absl::StrFormat("<0x%02X>", byte));
  return absl::OkStatus();
}

absl::Status BpeModel::ReadMerges(const Json& config) {
  const Json* list = tokenizer::Find(config, "merges");
  if (list == nullptr || !list->is_array()) {
    return absl::InvalidArgumentError("model lacks the list \"merges\"");
  }
  if (list->size() >= kNoRank) return absl::InvalidArgumentError("model has too many merges");
  merges_.reserve(list->size());
  merge_order_.reserve(list->size());
  std::string joined;
  for (size_t i = 0; i < list->size(); ++i) {
    const Json& item = (*list)[i];
    if (item.is_string() && item.get_ref<const std::string&>().starts_with("#version")) continue;
    const auto sides = SplitMerge(item);
    if (!sides) {
      return absl::InvalidArgumentError(
          absl::StrCat("model.merges[", i, "] must be \"left right\" or [\"left\", \"right\"]"));
    }
    const TokenId left = Find(sides->first);
    const TokenId right = Find(sides->second);
    joined.assign(sides->first).append(sides->second);
    const TokenId merged = Find(joined);
    if (left < 0 || right < 0 || merged < 0) {
      const std::string_view missing = left < 0    ? sides->first
                                       : right < 0 ? sides->second
                                                   : std::string_view(joined);
      return absl::InvalidArgumentError(absl::StrCat("model.merges[", i, "]: \"", ToAbsl(missing),
                                                     "\" is not in the vocabulary"));
    }
    merges_[PairKey(left, right)] = {static_cast<uint32_t>(merge_order_.size()), merged};
    merge_order_.emplace_back(left, right);
  }
  return absl::OkStatus();
}

absl::Status BpeModel::ReadFlags(const Json& config) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    auto affix = StringOr(config, key, "", kWhere);
    if (!affix.ok()) return affix.status();
    if (!affix->empty()) {
      return absl::UnimplementedError(absl::StrCat("model.", key, " \"", *affix, "\""));
    }
  }
  if (const Json* dropout = tokenizer::Find(config, "dropout"); dropout != nullptr) {
    if (!dropout->is_number() || dropout->get<double>() != 0.0) {
      return absl::UnimplementedError("model.dropout (ids must not be random)");
    }
  }
  auto unknown = StringOr(config, "unk_token", "", kWhere);
  if (!unknown.ok()) return unknown.status();
  if (tokenizer::Find(config, "unk_token") != nullptr) {
    unknown_ = Find(*unknown);
    if (unknown_ < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("model.unk_token \"", *unknown, "\" is not in the vocabulary"));
    }
  }
  auto fuse = BoolOr(config, "fuse_unk", false, kWhere);
  if (!fuse.ok()) return fuse.status();
  auto fallback = BoolOr(config, "byte_fallback", false, kWhere);
  if (!fallback.ok()) return fallback.status();
  auto ignore = BoolOr(config, "ignore_merges", false, kWhere);
  if (!ignore.ok()) return ignore.status();
  fuse_unknown_ = *fuse;
  byte_fallback_ = *fallback;
  ignore_merges_ = *ignore;
  return absl::OkStatus();
}

TokenId BpeModel::Find(std::string_view token) const {
  const auto it = ids_.find(ToAbsl(token));
  return it == ids_.end() ? -1 : it->second;
}

const std::string* BpeModel::Text(TokenId id) const {
  if (id < 0 || static_cast<size_t>(id) >= texts_.size() || !texts_[id].used) return nullptr;
  return &texts_[id].text;
}

TokenId BpeModel::FindCharacter(std::string_view character) const {
  size_t pos = 0;
  const char32_t c = DecodeUtf8(character, &pos);
  return c < kTableEnd ? character_ids_[c] : Find(character);
}

void BpeModel::AppendCharacters(std::string_view word, std::vector<TokenId>* ids) const {
  // An unknown character waits here: fused with the next, or put out ahead of the
  // next known one. Byte tokens do not put it out; PyPI `tokenizers` has it so.
  bool waiting = false;
  for (size_t pos = 0; pos < word.size();) {
    const std::string_view character = word.substr(pos, ScanUtf8(word, pos).length);
    pos += character.size();
    const TokenId id = FindCharacter(character);
    if (id >= 0) {
      if (waiting) ids->push_back(unknown_);
      waiting = false;
      ids->push_back(id);
      continue;
    }
    if (byte_fallback_) {
      const bool all = std::all_of(character.begin(), character.end(), [this](char byte) {
        return byte_ids_[static_cast<uint8_t>(byte)] >= 0;
      });
      if (all) {
        for (const char byte : character) ids->push_back(byte_ids_[static_cast<uint8_t>(byte)]);
        continue;
      }
    }
    if (unknown_ >= 0) {
      if (waiting && !fuse_unknown_) ids->push_back(unknown_);
      waiting = true;
    }
  }
  if (waiting) ids->push_back(unknown_);
}

const BpeModel::Merge* BpeModel::FindMerge(TokenId left, TokenId right) const {
  const auto it = merges_.find(PairKey(left, right));
  return it == merges_.end() ? nullptr : &it->second;
}

void BpeModel::MergeShort(std::vector<TokenId>* ids) const {
  std::array<uint32_t, kShortWord> ranks;
  std::array<TokenId, kShortWord> merged;
  size_t count = ids->size();
  TokenId* id = ids->data();
  const auto look_up = [&](size_t i) {
    const Merge* merge = FindMerge(id[i], id[i + 1]);
    ranks[i] = merge == nullptr ? kNoRank : merge->rank;
    merged[i] = merge == nullptr ? -1 : merge->merged;
  };
  for (size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    const auto lowest = std::min_element(ranks.begin(), ranks.begin() + (count - 1));
    if (*lowest == kNoRank) break;
    const size_t at = lowest - ranks.begin();
    id[at] = merged[at];
    std::copy(id + at + 2, id + count, id + at + 1);
    std::copy(ranks.begin() + at + 1, ranks.begin() + (count - 1), ranks.begin() + at);
    std::copy(merged.begin() + at + 1, merged.begin() + (count - 1), merged.begin() + at);
    --count;
    if (at > 0) look_up(at - 1);
    if (at + 1 < count) look_up(at);
  }
  ids->resize(count);
}

void BpeModel::MergeLong(Scratch* scratch) const {
  std::vector<Scratch::Symbol>& symbols = scratch->symbols;
  std::vector<Scratch::Candidate>& heap = scratch->heap;
  const int32_t count = static_cast<int32_t>(scratch->ids.size());
  symbols.clear();
  heap.clear();
  for (int32_t i = 0; i < count; ++i) {
    symbols.push_back({scratch->ids[i], i - 1, i + 1 < count ? i + 1 : -1, true});
    if (i + 1 == count) break;
    if (const Merge* merge = FindMerge(scratch->ids[i], scratch->ids[i + 1])) {
      heap.push_back({merge->rank, i, merge->merged});
    }
  }
  std::make_heap(heap.begin(), heap.end(), Later);
  const auto propose = [&](int32_t left) {
    if (left < 0 || symbols[left].next < 0) return;
    if (const Merge* merge = FindMerge(symbols[left].id, symbols[symbols[left].next].id)) {
      heap.push_back({merge->rank, left, merge->merged});
      std::push_heap(heap.begin(), heap.end(), Later);
    }
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), Later);
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = symbols[top.position];
    if (!left.alive || left.next < 0) continue;
    Scratch::Symbol& right = symbols[left.next];
    // Candidates are not removed when a neighbour changes; they expire here.
    const Merge* merge = FindMerge(left.id, right.id);
    if (merge == nullptr || merge->merged != top.merged) continue;
    left.id = top.merged;
    right.alive = false;
    left.next = right.next;
    if (left.next >= 0) symbols[left.next].prev = top.position;
    propose(left.prev);
    propose(top.position);
  }
  scratch->ids.clear();
  for (int32_t i = 0; i >= 0; i = symbols[i].next) scratch->ids.push_back(symbols[i].id);
}

void BpeModel::Tokenize(std::string_view word, Scratch* scratch, std::vector<TokenId>* out) const {
  if (word.empty()) return;
  if (ignore_merges_) {
    if (const TokenId id = Find(word); id >= 0) {
      out->push_back(id);
      return;
    }
  }
  scratch->ids.clear();
  AppendCharacters(word, &scratch->ids);
  if (scratch->ids.size() > kShortWord) {
    MergeLong(scratch);
  } else if (scratch->ids.size() > 1) {
    MergeShort(&scratch->ids);
  }
  out->insert(out->end(), scratch->ids.begin(), scratch->ids.end());
}

std::string BpeModel::Canonical() const {
  std::string out;
  AppendInt(static_cast<int64_t>(ids_.size()), &out);
  for (size_t id = 0; id < texts_.size(); ++id) {
    if (!texts_[id].used) continue;
    AppendInt(static_cast<int64_t>(id), &out);
    AppendInt(static_cast<int64_t>(texts_[id].text.size()), &out);
    out.append(texts_[id].text);
  }
  AppendInt(static_cast<int64_t>(merge_order_.size()), &out);
  for (const auto& [left, right] : merge_order_) {
    AppendInt(static_cast<int64_t>(PairKey(left, right)), &out);
  }
  AppendInt(unknown_, &out);
  for (const bool flag : {fuse_unknown_, byte_fallback_, ignore_merges_}) out.push_back(flag);
  return out;
}

}  // namespace strata::tokenizer
