#ifndef STRATA_COMMON_TOKENIZER_POST_PROCESSOR_H_
#define STRATA_COMMON_TOKENIZER_POST_PROCESSOR_H_

#include <vector>

#include "absl/status/statusor.h"
#include "common/base/draft_tree.h"
#include "common/tokenizer/json.h"

namespace strata::tokenizer {

// What the "post_processor" of tokenizer.json puts around one sequence when
// special tokens are asked for.
struct PostProcessor {
  std::vector<TokenId> prefix;
  std::vector<TokenId> suffix;
};

// `config` may be nullptr. UNIMPLEMENTED names a type that is not one of ByteLevel
// (which only moves offsets), TemplateProcessing, BertProcessing,
// RobertaProcessing, Sequence, or a template without the text or with it twice.
absl::StatusOr<PostProcessor> ParsePostProcessor(const Json* config);

}  // namespace strata::tokenizer

#endif  // STRATA_COMMON_TOKENIZER_POST_PROCESSOR_H_
