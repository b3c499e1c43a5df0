#ifndef STRATA_SERVICES_DRAFT_CORPUS_INPUT_LIST_H_
#define STRATA_SERVICES_DRAFT_CORPUS_INPUT_LIST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace strata::draft {

struct InputFile {
  std::string path;
  uint64_t bytes = 0;  // as on disk
  // Named by the user, not found in a folder: it must then be readable as text.
  bool named = false;
};

// The files of `inputs`: files as they are, folders with all below them, by path.
// Below a folder, names that begin with '.', links to folders and what is no regular
// file are left out. NOT_FOUND names an input that is not there; INVALID_ARGUMENT one
// that is neither a file nor a folder.
absl::StatusOr<std::vector<InputFile>> ListInputs(const std::vector<std::string>& inputs);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_INPUT_LIST_H_
