#include "services/draft/corpus/input_list.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;

absl::Status ListFolder(const fs::path& folder, std::vector<InputFile>& files) {
  std::error_code error;
  const size_t first = files.size();
  fs::recursive_directory_iterator at(folder, error);
  while (!error && at != fs::recursive_directory_iterator()) {
    const fs::directory_entry& entry = *at;
    // An entry that vanishes or cannot be examined is no file of the corpus.
    std::error_code ignored;
    const bool hidden = entry.path().filename().native().starts_with('.');
    if (hidden && entry.is_directory(ignored)) {
      at.disable_recursion_pending();
    } else if (!hidden && entry.is_regular_file(ignored)) {
      files.push_back({entry.path().string(), entry.file_size(ignored), false});
    }
    at.increment(error);
  }
  if (error) {
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot list ", folder.string()));
  }
  std::sort(files.begin() + static_cast<std::ptrdiff_t>(first), files.end(),
            [](const InputFile& a, const InputFile& b) { return a.path < b.path; });
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<InputFile>> ListInputs(const std::vector<std::string>& inputs) {
  std::vector<InputFile> files;
  for (const std::string& input : inputs) {
    std::error_code error;
    const fs::file_status found = fs::status(input, error);
    if (found.type() == fs::file_type::not_found) {
      return absl::NotFoundError(absl::StrCat("no such file or folder: ", input));
    }
    if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot open ", input));
    if (fs::is_directory(found)) {
      absl::Status status = ListFolder(input, files);
      if (!status.ok()) return status;
    } else if (fs::is_regular_file(found)) {
      files.push_back({input, fs::file_size(input, error), true});
    } else {
      return absl::InvalidArgumentError(absl::StrCat(input, " is neither a file nor a folder"));
    }
  }
  return files;
}

}  // namespace strata::draft
