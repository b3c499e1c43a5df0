#include "services/draft/corpus/manifest.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "services/draft/corpus/file_util.h"
#include "services/draft/corpus/snapshot_format.h"

namespace strata::draft {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr char kFormatName[] = "strata-corpus";
constexpr char kSnapshotKind[] = "snapshot";
constexpr char kShardKind[] = "shard";
constexpr size_t kMaxManifestBytes = 16 << 20;
// A manifest has 3 levels. JSON is written out, for the checksum, by recursion: the megabytes of
// brackets that fit a file would end the process.
constexpr int kMaxDepth = 16;

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("damaged manifest: ", what));
}

// Reads members of one object without exceptions; the first thing wrong stays.
class Members {
 public:
  explicit Members(const Json& object) : object_(object) {}

  template <typename T>
  void Unsigned(const char* name, T& out) {
    const Json* member = Find(name);
    if (member == nullptr) return;
    if (!member->is_number_unsigned()) return Fail(name, "must be a non-negative integer");
    const uint64_t value = member->get<uint64_t>();
    out = static_cast<T>(value);
    if (static_cast<uint64_t>(out) != value || out < T{0}) Fail(name, "is out of range");
  }

  void String(const char* name, std::string& out) {
    const Json* member = Find(name);
    if (member == nullptr) return;
    if (!member->is_string()) return Fail(name, "must be a string");
    out = member->get<std::string>();
  }

  const Json* Array(const char* name) { return Typed(name, Json::value_t::array); }
  const Json* Object(const char* name) { return Typed(name, Json::value_t::object); }
  const absl::Status& status() const { return status_; }

 private:
  const Json* Find(const char* name) {
    const auto at = object_.find(name);
    if (at != object_.end()) return &*at;
    Fail(name, "is missing");
    return nullptr;
  }
  const Json* Typed(const char* name, Json::value_t type) {
    const Json* member = Find(name);
    if (member == nullptr || member->type() == type) return member;
    Fail(name, "has the wrong type");
    return nullptr;
  }
  void Fail(const char* name, const char* what) {
    if (status_.ok()) status_ = Damaged(absl::StrCat("\"", name, "\" ", what));
  }

  const Json& object_;
  absl::Status status_;
};

bool IsHex128(std::string_view text) {
  return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == text.npos;
}

// Only files inside the snapshot, whoever wrote the manifest.
bool IsInside(const std::string& path) {
  if (path.empty() || path[0] == '/') return false;
  for (const fs::path& part : fs::path(path)) {
    if (part.empty() || part == "." || part == "..") return false;
  }
  return true;
}

absl::Status ReadOptions(const Json& object, CountOptions& options) {
  Members members(object);
  members.Unsigned("max_order", options.max_order);
  members.Unsigned("top", options.top);
  members.Unsigned("prune_count", options.prune_count);
  members.Unsigned("prune_continuations", options.prune_continuations);
  if (!members.status().ok()) return members.status();
  const absl::Status valid = ValidateCountOptions(options);
  return valid.ok() ? valid : Damaged(valid.message());
}

absl::Status ReadFiles(const Json& array, std::vector<Manifest::File>& files) {
  for (const Json& object : array) {
    if (!object.is_object()) return Damaged("an entry of \"files\" is not an object");
    Manifest::File& file = files.emplace_back();
    Members members(object);
    members.String("path", file.path);
    members.Unsigned("size", file.size);
    members.String("xxh3", file.xxh3);
    if (!members.status().ok()) return members.status();
    if (!IsInside(file.path)) return Damaged("the path of a file is not inside the snapshot");
    if (!IsHex128(file.xxh3)) return Damaged("the checksum of a file is not 32 hex digits");
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t Manifest::context_count() const {
  return std::accumulate(contexts.begin(), contexts.end(), uint64_t{0});
}

uint64_t Manifest::file_bytes() const {
  return std::accumulate(files.begin(), files.end(), uint64_t{0},
                         [](uint64_t sum, const File& file) { return sum + file.size; });
}

std::string ManifestToJson(const Manifest& manifest) {
  Json files = Json::array();
  for (const Manifest::File& file : manifest.files) {
    files.push_back({{"path", file.path}, {"size", file.size}, {"xxh3", file.xxh3}});
  }
  const CountOptions& options = manifest.options;
  Json json = {{"format", kFormatName},
               {"format_version", kFormatVersion},
               {"kind", options.shard ? kShardKind : kSnapshotKind},
               {"tokenizer_fingerprint", manifest.tokenizer_fingerprint},
               {"vocab_size", manifest.vocab_size},
               {"options",
                {{"max_order", options.max_order},
                 {"top", options.top},
                 {"prune_count", options.prune_count},
                 {"prune_continuations", options.prune_continuations}}},
               {"documents", manifest.documents},
               {"tokens", manifest.tokens},
               {"contexts", manifest.contexts},
               {"files", files}};
  json["manifest_xxh3"] = Xxh3Hex(json.dump());
  return json.dump(2) + "\n";
}

absl::StatusOr<Manifest> ParseManifest(std::string_view text) {
  bool too_deep = false;
  const Json::parser_callback_t guard = [&too_deep](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;
  };
  Json json = Json::parse(text, guard, /*allow_exceptions=*/false);
  if (too_deep) {
    return Damaged(absl::StrCat("it is nested deeper than ", kMaxDepth, " levels"));
  }
  if (!json.is_object()) return Damaged("it is not a JSON object");
  const auto format = json.find("format");
  const auto version = json.find("format_version");
  if (format == json.end() || *format != kFormatName || version == json.end()) {
    return Damaged("it is not the manifest of a strata-corpus snapshot");
  }
  // Before the checksum: another version may compute another one.
  if (*version != kFormatVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the snapshot has format version ",
        version->dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 40),
        "; this program reads version ", kFormatVersion, " (build the snapshot again)"));
  }
  std::string checksum;
  Members members(json);
  members.String("manifest_xxh3", checksum);
  if (!members.status().ok()) return members.status();
  json.erase("manifest_xxh3");
  if (Xxh3Hex(json.dump(-1, ' ', false, Json::error_handler_t::replace)) != checksum) {
    return Damaged("its checksum does not fit its contents");
  }
  Manifest manifest;
  std::string kind;
  members.String("kind", kind);
  members.String("tokenizer_fingerprint", manifest.tokenizer_fingerprint);
  members.Unsigned("vocab_size", manifest.vocab_size);
  members.Unsigned("documents", manifest.documents);
  members.Unsigned("tokens", manifest.tokens);
  const Json* options = members.Object("options");
  const Json* contexts = members.Array("contexts");
  const Json* files = members.Array("files");
  if (!members.status().ok()) return members.status();
  if (manifest.vocab_size < 1 || manifest.vocab_size > kMaxVocab) {
    return Damaged(absl::StrCat("\"vocab_size\" must be in 1 to ", kMaxVocab));
  }
  if (kind != kSnapshotKind && kind != kShardKind) {
    return Damaged("\"kind\" is neither snapshot nor shard");
  }
  manifest.options.shard = kind == kShardKind;
  absl::Status status = ReadOptions(*options, manifest.options);
  if (status.ok()) status = ReadFiles(*files, manifest.files);
  if (!status.ok()) return status;
  for (const Json& count : *contexts) {
    if (!count.is_number_unsigned()) return Damaged("\"contexts\" must hold counts");
    manifest.contexts.push_back(count.get<uint64_t>());
  }
  if (manifest.contexts.size() != static_cast<size_t>(manifest.options.max_order)) {
    return Damaged("\"contexts\" does not have a count for each order");
  }
  return manifest;
}

std::string FolderName(const std::string& dir) {
  // A trailing '/' would leave no name.
  return (fs::path(dir) / "").lexically_normal().parent_path().filename().string();
}

absl::StatusOr<std::string> ResolveSnapshot(const std::string& dir) {
  std::error_code error;
  if (!fs::is_directory(dir, error)) {
    return absl::NotFoundError(absl::StrCat("corpus snapshot: no such folder: ", dir));
  }
  const fs::path root(dir);
  if (fs::exists(root / kManifestName, error)) return dir;
  if (!fs::exists(root / kCurrentName, error)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "corpus snapshot ", dir, " has no ", kManifestName, " (its build has not finished) and no ",
        kCurrentName, " (it is no folder of snapshots)"));
  }
  auto current = ReadSmallFile((root / kCurrentName).string(), 4096);
  if (!current.ok()) return current.status();
  const std::string name(absl::StripAsciiWhitespace(*current));
  if (name.empty() || name == "." || name == ".." || name.find_first_of("/\\") != name.npos) {
    return absl::DataLossError(
        absl::StrCat((root / kCurrentName).string(), " does not hold the name of a folder"));
  }
  const std::string snapshot = (root / name).string();
  if (!fs::is_directory(snapshot, error)) {
    return absl::NotFoundError(absl::StrCat((root / kCurrentName).string(), " names ", name,
                                            ", but there is no such folder beside it"));
  }
  return snapshot;
}

absl::StatusOr<Manifest> ReadManifest(const std::string& snapshot_dir) {
  const std::string path = (fs::path(snapshot_dir) / kManifestName).string();
  std::error_code error;
  if (!fs::exists(path, error)) {
    return absl::FailedPreconditionError(absl::StrCat("corpus snapshot ", snapshot_dir, " has no ",
                                                      kManifestName,
                                                      ": its build has not finished"));
  }
  auto text = ReadSmallFile(path, kMaxManifestBytes);
  if (!text.ok()) return text.status();
  auto manifest = ParseManifest(*text);
  if (!manifest.ok()) {
    return absl::Status(manifest.status().code(),
                        absl::StrCat(path, ": ", manifest.status().message()));
  }
  return manifest;
}

}  // namespace strata::draft
