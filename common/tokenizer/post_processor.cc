#include "common/tokenizer/post_processor.h"

#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

namespace strata::tokenizer {
namespace {

constexpr absl::string_view kWhere = "post_processor";

absl::StatusOr<PostProcessor> ParseTemplate(const Json& config) {
  const Json* pieces = Find(config, "single");
  if (pieces == nullptr || !pieces->is_array()) {
    return absl::InvalidArgumentError(
        "post_processor TemplateProcessing lacks the list \"single\"");
  }
  const Json* tokens = Find(config, "special_tokens");
  PostProcessor result;
  int texts = 0;
  for (const Json& piece : *pieces) {
    if (Find(piece, "Sequence") != nullptr) {
      ++texts;
      continue;
    }
    const Json* special = Find(piece, "SpecialToken");
    if (special == nullptr) {
      return absl::InvalidArgumentError(
          "post_processor TemplateProcessing.single: each part must be a Sequence or a "
          "SpecialToken");
    }
    auto name = String(*special, "id", "post_processor SpecialToken");
    if (!name.ok()) return name.status();
    const Json* definition = tokens == nullptr ? nullptr : Find(*tokens, name->c_str());
    const Json* ids = definition == nullptr ? nullptr : Find(*definition, "ids");
    if (ids == nullptr || !ids->is_array()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "post_processor TemplateProcessing.special_tokens lacks the ids of \"", *name, "\""));
    }
    for (const Json& value : *ids) {
      auto id = Id(value, absl::StrCat("post_processor special token \"", *name, "\""));
      if (!id.ok()) return id.status();
      (texts == 0 ? result.prefix : result.suffix).push_back(*id);
    }
  }
  if (texts != 1) {
    return absl::UnimplementedError(
        absl::StrCat("post_processor TemplateProcessing.single has the text ", texts, " times"));
  }
  return result;
}

// {"sep": [text, id], "cls": [text, id]}
absl::StatusOr<PostProcessor> ParseClsSep(const Json& config) {
  PostProcessor result;
  const std::pair<const char*, std::vector<TokenId>*> ends[] = {{"cls", &result.prefix},
                                                                {"sep", &result.suffix}};
  for (const auto& [key, list] : ends) {
    const Json* pair = Find(config, key);
    if (pair == nullptr || !pair->is_array() || pair->size() != 2) {
      return absl::InvalidArgumentError(
          absl::StrCat("post_processor.", key, " must be [text, id]"));
    }
    auto id = Id((*pair)[1], absl::StrCat("post_processor.", key));
    if (!id.ok()) return id.status();
    list->push_back(*id);
  }
  return result;
}

}  // namespace

absl::StatusOr<PostProcessor> ParsePostProcessor(const Json* config) {
  if (config == nullptr) return PostProcessor{};
  auto type = String(*config, "type", kWhere);
  if (!type.ok()) return type.status();
  if (*type == "ByteLevel") return PostProcessor{};
  if (*type == "TemplateProcessing") return ParseTemplate(*config);
  if (*type == "BertProcessing" || *type == "RobertaProcessing") return ParseClsSep(*config);
  if (*type == "Sequence") {
    const Json* list = Find(*config, "processors");
    if (list == nullptr || !list->is_array()) {
      return absl::InvalidArgumentError("post_processor Sequence lacks the list \"processors\"");
    }
    PostProcessor result;
    for (const Json& item : *list) {
      auto part = ParsePostProcessor(&item);
      if (!part.ok()) return part.status();
      // A later processor wraps what the earlier ones made.
      result.prefix.insert(result.prefix.begin(), part->prefix.begin(), part->prefix.end());
      result.suffix.insert(result.suffix.end(), part->suffix.begin(), part->suffix.end());
    }
    return result;
  }
  return absl::UnimplementedError(
      absl::StrCat("post_processor \"", *type,
                   "\" (known: ByteLevel, TemplateProcessing, BertProcessing, "
                   "RobertaProcessing, Sequence)"));
}

}  // namespace strata::tokenizer
