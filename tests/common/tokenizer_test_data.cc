#include "tests/common/tokenizer_test_data.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/tokenizer/utf8.h"

namespace strata {
namespace {

constexpr uint32_t kSame = 0xFFFFFFFF;

class Reader {
 public:
  explicit Reader(std::string bytes) : bytes_(std::move(bytes)) {}
  bool done() const { return pos_ >= bytes_.size(); }
  bool broken() const { return broken_; }
  uint32_t Length() {
    uint32_t value = 0;
    Copy(&value, sizeof(value));
    return value;
  }
  std::string Text(uint32_t length) {
    if (length > bytes_.size() - pos_) return Break(), "";
    std::string text = bytes_.substr(pos_, length);
    pos_ += length;
    return text;
  }
  std::vector<TokenId> Ids(uint32_t count) {
    if (count > (bytes_.size() - pos_) / sizeof(TokenId)) return Break(), std::vector<TokenId>();
    std::vector<TokenId> ids(count);
    Copy(ids.data(), count * sizeof(TokenId));
    return ids;
  }

 private:
  void Break() {
    broken_ = true;
    pos_ = bytes_.size();
  }
  void Copy(void* to, size_t count) {
    if (count > bytes_.size() - pos_) return Break();
    if (count > 0) std::memcpy(to, bytes_.data() + pos_, count);
    pos_ += count;
  }
  std::string bytes_;
  size_t pos_ = 0;
  bool broken_ = false;
};

std::string FileBytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

}  // namespace

absl::StatusOr<std::string> Environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') {
    return absl::FailedPreconditionError(
        absl::StrCat("this test needs the environment variable ", name, " (see tests/run.sh)"));
  }
  return std::string(value);
}

std::vector<ModelFolder> GivenModelFolders() {
  std::vector<ModelFolder> folders;
  const auto root = Environment("STRATA_TEST_TOKENIZERS");
  if (!root.ok()) return folders;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(*root, error)) {
    if (!std::filesystem::exists(entry.path() / "tokenizer.json")) continue;
    folders.push_back({entry.path().filename().string(), entry.path().string()});
  }
  std::sort(folders.begin(), folders.end(),
            [](const ModelFolder& a, const ModelFolder& b) { return a.name < b.name; });
  return folders;
}

absl::StatusOr<std::string> MakeReference(const std::string& what, const std::string& name) {
  auto python = Environment("STRATA_PYTHON");
  if (!python.ok()) return python.status();
  auto cache = Environment("STRATA_CACHE");
  if (!cache.ok()) return cache.status();
  const std::string out = absl::StrCat(*cache, "/reference/tokenizer");
  const std::string script = STRATA_TOKENIZER_REFERENCE;
  const pid_t child = fork();
  if (child < 0) return absl::InternalError("cannot fork");
  if (child == 0) {
    execl(python->c_str(), python->c_str(), script.c_str(), what.c_str(), out.c_str(), name.c_str(),
          nullptr);
    _exit(127);
  }
  int result = 0;
  if (waitpid(child, &result, 0) != child || result != 0) {
    return absl::InternalError(
        absl::StrCat(*python, " ", script, " ", what, " ", out, " ", name, " failed"));
  }
  return absl::StrCat(out, "/", name);
}

absl::StatusOr<std::vector<ReferenceText>> ReadReference(const std::string& folder) {
  Reader reader(FileBytes(absl::StrCat(folder, "/ids.bin")));
  std::vector<ReferenceText> texts;
  while (!reader.done()) {
    ReferenceText& item = texts.emplace_back();
    item.text = reader.Text(reader.Length());
    item.ids = reader.Ids(reader.Length());
    const uint32_t special = reader.Length();
    item.ids_with_special = special == kSame ? item.ids : reader.Ids(special);
    for (std::string* decoded : {&item.decoded, &item.decoded_unspecial}) {
      const uint32_t length = reader.Length();
      if (length == kSame) {
        tokenizer::AppendLossyUtf8(item.text, decoded);
      } else {
        *decoded = reader.Text(length);
      }
    }
  }
  if (reader.broken() || texts.empty()) {
    return absl::DataLossError(absl::StrCat(folder, "/ids.bin is damaged"));
  }
  return texts;
}

absl::StatusOr<std::vector<ReferenceStream>> ReadStreams(const std::string& folder) {
  Reader reader(FileBytes(absl::StrCat(folder, "/streams.bin")));
  std::vector<ReferenceStream> streams;
  while (!reader.done()) {
    ReferenceStream& item = streams.emplace_back();
    item.ids = reader.Ids(reader.Length());
    item.decoded = reader.Text(reader.Length());
    item.decoded_unspecial = reader.Text(reader.Length());
  }
  if (reader.broken() || streams.empty()) {
    return absl::DataLossError(absl::StrCat(folder, "/streams.bin is cut short"));
  }
  return streams;
}

}  // namespace strata
