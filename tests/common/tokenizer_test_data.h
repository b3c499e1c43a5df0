#ifndef STRATA_TESTS_COMMON_TOKENIZER_TEST_DATA_H_
#define STRATA_TESTS_COMMON_TOKENIZER_TEST_DATA_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/draft_tree.h"

namespace strata {

// One text with what PyPI `tokenizers` gives for it (tokenizer_reference.py).
struct ReferenceText {
  std::string text;  // raw bytes, may be invalid UTF-8
  std::vector<TokenId> ids;
  std::vector<TokenId> ids_with_special;
  std::string decoded;            // of ids_with_special
  std::string decoded_unspecial;  // the same, special tokens skipped
};

// The variable's value; FAILED_PRECONDITION naming it if it is unset or empty.
absl::StatusOr<std::string> Environment(const char* name);

// A model folder with a tokenizer.
struct ModelFolder {
  std::string name;
  std::string path;
};
// Those in the folder that STRATA_TEST_TOKENIZERS names, by name; none if it is unset. They may be
// any models': nothing is known of their templates.
std::vector<ModelFolder> GivenModelFolders();

// Runs tokenizer_reference.py (`what`: "ids" or "chat") for `name` and returns the
// folder with its results. Needs STRATA_PYTHON, STRATA_CACHE, STRATA_TEST_DATA and
// for model folders their variables. Results are cached.
absl::StatusOr<std::string> MakeReference(const std::string& what, const std::string& name);

absl::StatusOr<std::vector<ReferenceText>> ReadReference(const std::string& folder);

// Ids in any order, as a model might say them, with what PyPI `tokenizers` decodes them to.
struct ReferenceStream {
  std::vector<TokenId> ids;
  std::string decoded;
  std::string decoded_unspecial;
};
absl::StatusOr<std::vector<ReferenceStream>> ReadStreams(const std::string& folder);

}  // namespace strata

#endif  // STRATA_TESTS_COMMON_TOKENIZER_TEST_DATA_H_
