#include "services/draft/tiers/model_file.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#define XXH_INLINE_ALL
#include "xxhash.h"

namespace strata::draft {
namespace {

constexpr absl::string_view kMagic = "STRATAMT";
constexpr uint32_t kVersion = 2;
// Has no calibration.
constexpr uint32_t kFirstVersion = 1;
constexpr size_t kHeaderBytes = 8 + 4 + 4 + 8 + 8;

template <typename T>
void Put(std::string& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

void PutString(std::string& out, absl::string_view value) {
  Put<uint32_t>(out, static_cast<uint32_t>(value.size()));
  out.append(value.data(), value.size());
}

// Takes values off the front; false, and nothing taken, if too few bytes are left.
class Reader {
 public:
  explicit Reader(absl::string_view data) : left_(data) {}
  size_t left() const { return left_.size(); }

  template <typename T>
  bool Get(T& value) {
    if (left_.size() < sizeof(T)) return false;
    value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) {
      value |= static_cast<T>(static_cast<uint8_t>(left_[i])) << (8 * i);
    }
    left_.remove_prefix(sizeof(T));
    return true;
  }

  bool GetString(std::string& value) {
    uint32_t size;
    if (!Get(size) || left_.size() < size) return false;
    value.assign(left_.data(), size);
    left_.remove_prefix(size);
    return true;
  }

 private:
  absl::string_view left_;
};

absl::Status DecodeSegment(Reader& reader, ModelSegment& segment) {
  uint32_t count;
  if (!reader.Get(count) || !reader.Get(segment.first_key) || !reader.Get(segment.end_key)) {
    return absl::DataLossError("it ends inside a segment's header");
  }
  if (reader.left() / sizeof(uint32_t) < count) {
    return absl::DataLossError(absl::StrCat("it ends inside a segment of ", count, " tokens"));
  }
  if (segment.first_key > segment.end_key || segment.end_key > count) {
    return absl::DataLossError(absl::StrCat("keys [", segment.first_key, ", ", segment.end_key,
                                            ") do not fit a segment of ", count, " tokens"));
  }
  segment.tokens.resize(count);
  for (TokenId& token : segment.tokens) {
    uint32_t value = 0;
    reader.Get(value);
    if (value > INT32_MAX) {
      return absl::DataLossError(absl::StrCat("token id ", value, " is out of range"));
    }
    token = static_cast<TokenId>(value);
  }
  return absl::OkStatus();
}

}  // namespace

std::string EncodeModelFile(const ModelFileContent& content) {
  std::string body;
  PutString(body, content.key.model_id);
  PutString(body, content.key.tokenizer_fingerprint);
  PutString(body, content.key.tenant);
  Put<uint64_t>(body, content.segments.size());
  for (const ModelSegment& segment : content.segments) {
    Put<uint32_t>(body, static_cast<uint32_t>(segment.tokens.size()));
    Put<uint32_t>(body, segment.first_key);
    Put<uint32_t>(body, segment.end_key);
    for (const TokenId token : segment.tokens) Put<uint32_t>(body, static_cast<uint32_t>(token));
  }
  PutString(body, content.calibration);
  std::string out(kMagic);
  out.reserve(kHeaderBytes + body.size());
  Put<uint32_t>(out, kVersion);
  Put<uint32_t>(out, 0);
  Put<uint64_t>(out, body.size());
  Put<uint64_t>(out, XXH3_64bits(body.data(), body.size()));
  out += body;
  return out;
}

absl::StatusOr<ModelFileContent> DecodeModelFile(absl::string_view data) {
  if (data.size() < kHeaderBytes || data.substr(0, kMagic.size()) != kMagic) {
    return absl::DataLossError("it does not begin like a model tier file");
  }
  Reader reader(data.substr(kMagic.size()));
  uint32_t version = 0, reserved = 0;
  uint64_t body_bytes = 0, checksum = 0;
  reader.Get(version);
  reader.Get(reserved);
  reader.Get(body_bytes);
  reader.Get(checksum);
  if (version < kFirstVersion || version > kVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "it has format version ", version, ", this build reads ", kFirstVersion, " to ", kVersion));
  }
  if (reader.left() != body_bytes) {
    return absl::DataLossError(absl::StrCat("it has ", reader.left(), " bytes after the header, ",
                                            body_bytes, " were written"));
  }
  if (XXH3_64bits(data.data() + kHeaderBytes, body_bytes) != checksum) {
    return absl::DataLossError("its checksum does not match");
  }
  ModelFileContent content;
  uint64_t segments;
  if (!reader.GetString(content.key.model_id) ||
      !reader.GetString(content.key.tokenizer_fingerprint) ||
      !reader.GetString(content.key.tenant) || !reader.Get(segments)) {
    return absl::DataLossError("it ends inside its key");
  }
  for (uint64_t i = 0; i < segments; ++i) {
    ModelSegment segment;
    if (absl::Status status = DecodeSegment(reader, segment); !status.ok()) return status;
    content.segments.push_back(std::move(segment));
  }
  if (version > kFirstVersion && !reader.GetString(content.calibration)) {
    return absl::DataLossError("it ends inside its calibration");
  }
  if (reader.left() != 0) {
    return absl::DataLossError(absl::StrCat(reader.left(), " bytes follow the end"));
  }
  return content;
}

}  // namespace strata::draft
