// Saved model tiers and calibrations whose bytes may be anything, with and without a right
// checksum.

#include <fuzzer/FuzzedDataProvider.h>
#include <unistd.h>
#include <xxhash.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "services/draft/hierarchy/calibration.h"
#include "services/draft/tiers/model_file.h"
#include "services/draft/tiers/model_store.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_seed.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little);

void Append(uint64_t value, size_t bytes, std::string& out) {
  char raw[8];
  std::memcpy(raw, &value, sizeof(raw));
  out.append(raw, bytes);
}

// `body` behind the header that belongs to it.
std::string Signed(uint32_t version, const std::string& body) {
  std::string file = "STRATAMT";
  Append(version, 4, file);
  Append(0, 4, file);
  Append(body.size(), 8, file);
  Append(XXH3_64bits(body.data(), body.size()), 8, file);
  return file + body;
}

void CheckFile(const std::string& bytes) {
  const auto content = DecodeModelFile(bytes);
  if (!content.ok()) return;
  for (const ModelSegment& segment : content->segments) {
    FUZZ_CHECK(segment.first_key <= segment.end_key);
    FUZZ_CHECK(segment.end_key <= segment.tokens.size());
    for (const TokenId token : segment.tokens) FUZZ_CHECK(token >= 0);
  }
  const std::string written = EncodeModelFile(*content);
  const auto again = DecodeModelFile(written);
  FUZZ_CHECK(again.ok());
  FUZZ_CHECK(EncodeModelFile(*again) == written);
}

// A store that finds the file in its folder, under the name that the key in it asks for.
void CheckStore(const std::string& bytes) {
  static const std::string folder = [] {
    std::string path = (fs::temp_directory_path() / "strata-fuzz-XXXXXX").string();
    FUZZ_CHECK(mkdtemp(path.data()) != nullptr);
    return path;
  }();
  const auto content = DecodeModelFile(bytes);
  ModelStoreOptions options;
  options.dir = folder;
  options.max_bytes = 256 << 10;
  std::vector<std::string> warnings;
  if (content.ok()) {
    // Let a store write a file for the key, then put the fuzzed one in its place.
    auto store = ModelStore::Open(options, &warnings);
    FUZZ_CHECK(store.ok());
    const std::vector<TokenId> tokens = {1, 2, 3, 1, 2, 3};
    (*store)->Learn(content->key, tokens, 0, 6);
    FUZZ_CHECK((*store)->Save().ok());
  }
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".lock") continue;
    std::ofstream(entry.path(), std::ios::binary | std::ios::trunc) << bytes;
  }
  auto store = ModelStore::Open(options, &warnings);
  FUZZ_CHECK(store.ok());
  if (content.ok()) {
    if (const auto tier = (*store)->Find(content->key)) {
      const std::vector<TokenId> context = {1, 2, 3};
      const ContextTail tail(context);
      MatchQuery query;
      query.tail = &tail;
      Evidence evidence;
      tier->Match({&query, 1}, kMaxLevels, {&evidence, 1});
      FUZZ_CHECK(evidence.levels <= kMaxLevels);
    }
    Calibration::Decode((*store)->Calibration(content->key)).status().IgnoreError();
  }
  store = absl::CancelledError();
  for (const auto& entry : fs::directory_iterator(folder)) fs::remove_all(entry.path());
}

}  // namespace
}  // namespace strata::draft

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  using namespace strata::draft;
  ModelFileContent content;
  content.key = {"model", "fingerprint", "tenant"};
  content.segments = {{{1, 2, 3, 4, 1, 2, 3}, 1, 7}, {{5, 6}, 0, 2}};
  content.calibration = "none";
  const std::string file = EncodeModelFile(content);
  const std::string body = file.substr(32);
  content.calibration = Calibration().Encode();
  strata::fuzz::WriteSeeds(
      *argc, *argv,
      {file + std::string(1, '\0'), file + "\x01", body + "\x02", content.calibration + "\x03",
       body + "\x05", EncodeModelFile(content).substr(32) + "\x02"});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using strata::draft::Signed;
  FuzzedDataProvider data(bytes, size);
  const uint8_t kind = data.ConsumeIntegral<uint8_t>();
  const std::string rest = data.ConsumeRemainingBytesAsString();
  switch (kind % 16) {
    case 0:
      strata::draft::CheckFile(rest);
      break;
    case 1:
      strata::draft::CheckStore(rest);
      break;
    case 2:
      strata::draft::CheckStore(Signed(2, rest));
      break;
    case 3:
      if (auto calibration = strata::draft::Calibration::Decode(rest); calibration.ok()) {
        FUZZ_CHECK(strata::draft::Calibration::Decode((*calibration)->Encode()).ok());
      }
      break;
    case 4:
      strata::draft::CheckFile(Signed(1, rest));
      break;
    default:
      strata::draft::CheckFile(Signed(2, rest));
  }
  return 0;
}
