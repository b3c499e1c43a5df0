// Saved model tiers and calibrations whose bytes may be anything, with and without a right
// checksum.

#include <fuzzer/FuzzedDataProvider.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "services/draft/hierarchy/calibration.h"
#include "services/draft/hierarchy/calibration_store.h"
#include "services/draft/tiers/model_file.h"
#include "services/draft/tiers/model_store.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_seed.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little);

constexpr int64_t kVocab = 16;
// Of a model store: text is soon forgotten and no calibration fits; or a few calibrations fit.
constexpr size_t kSmallStore = 256 << 10;
constexpr size_t kLargeStore = 2 << 20;

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
void CheckStore(const std::string& bytes, size_t max_bytes) {
  static const std::string folder = [] {
    std::string path = (fs::temp_directory_path() / "strata-fuzz-XXXXXX").string();
    FUZZ_CHECK(mkdtemp(path.data()) != nullptr);
    return path;
  }();
  const auto content = DecodeModelFile(bytes);
  ModelStoreOptions options;
  options.dir = folder;
  options.max_bytes = max_bytes;
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
  warnings.clear();
  auto store = ModelStore::Open(options, &warnings);
  FUZZ_CHECK(store.ok());
  FUZZ_CHECK((*store)->bytes() <= max_bytes);
  // A file that is refused is told of, and only such a one.
  FUZZ_CHECK(!content.ok() || warnings.empty());
  if (content.ok()) {
    const std::vector<TokenId> context = {1, 2, 3};
    if (const auto tier = (*store)->Find(content->key)) {
      const ContextTail tail(context);
      MatchQuery query;
      query.tail = &tail;
      Evidence evidence;
      tier->Match({&query, 1}, kMaxLevels, {&evidence, 1});
      FUZZ_CHECK(evidence.levels <= kMaxLevels);
    }
    Calibration::Decode((*store)->Calibration(content->key)).status().IgnoreError();
    // What was read can be taught more, and saved so that it is read again.
    (*store)->Learn(content->key, context, 0, 2);
    FUZZ_CHECK((*store)->bytes() <= max_bytes);
    FUZZ_CHECK((*store)->Save().ok());
    store = absl::CancelledError();
    store = ModelStore::Open(options, &warnings);
    FUZZ_CHECK(store.ok() && warnings.empty());
  }
  store = absl::CancelledError();
  for (const auto& entry : fs::directory_iterator(folder)) fs::remove_all(entry.path());
}

// A calibration's bytes with a few of them replaced: all of them are more than an input has.
std::string ConsumeCalibration(FuzzedDataProvider& data) {
  static const std::string fresh = Calibration().Encode();
  std::string bytes = fresh;
  for (int i = data.ConsumeIntegralInRange<int>(0, 8); i > 0; --i) {
    const size_t at = data.ConsumeIntegralInRange<size_t>(0, bytes.size());
    const std::string put = data.ConsumeRandomLengthString(64);
    bytes.replace(at, std::min(put.size(), bytes.size() - at), put);
  }
  if (data.ConsumeIntegral<uint8_t>() % 16 == 1) {
    bytes.resize(data.ConsumeIntegralInRange<size_t>(0, bytes.size()));
  }
  return bytes;
}

TierEvidence ConsumeEvidence(FuzzedDataProvider& data) {
  TierEvidence evidence;
  for (Evidence& tier : evidence) {
    tier.levels = data.ConsumeIntegralInRange<uint8_t>(0, kMaxLevels);
    for (int level = 0; level < tier.levels; ++level) {
      ContextCounts& counts = tier.level[level];
      counts.order = data.ConsumeIntegralInRange<uint8_t>(1, kMaxContextOrder);
      counts.size = data.ConsumeIntegralInRange<uint8_t>(0, kMaxContinuations);
      counts.total = data.ConsumeIntegral<uint32_t>();
      for (int i = 0; i < counts.size; ++i) {
        counts.continuations[i] = {data.ConsumeIntegralInRange<TokenId>(0, kVocab),
                                   std::max(1u, data.ConsumeIntegral<uint32_t>())};
      }
    }
  }
  return evidence;
}

// Ranks and learns. Returns how much it learned.
int Use(FuzzedDataProvider& data, Calibration& calibration) {
  Calibration::Workspace workspace;
  int learned = 0;
  while (data.remaining_bytes() > 0 && learned < 50) {
    const TierEvidence evidence = ConsumeEvidence(data);
    calibration.Rank(evidence, kVocab, workspace);
    std::set<TokenId> tokens;
    float sum = 0;
    for (const Candidate& candidate : workspace.candidates()) {
      FUZZ_CHECK(candidate.token >= 0 && candidate.token < kVocab);
      FUZZ_CHECK(tokens.insert(candidate.token).second);
      // False for NaN too.
      FUZZ_CHECK(candidate.probability >= 0 && candidate.probability <= 1);
      sum += candidate.probability;
    }
    FUZZ_CHECK(sum <= 1.0001f);
    calibration.Learn(evidence, kVocab, data.ConsumeIntegralInRange<TokenId>(0, kVocab), workspace);
    ++learned;
  }
  return learned;
}

void CheckCalibration(FuzzedDataProvider& data) {
  const std::string bytes = ConsumeCalibration(data);
  const auto calibration = Calibration::Decode(bytes);
  if (!calibration.ok()) return;
  FUZZ_CHECK((*calibration)->Encode() == bytes);
  Use(data, **calibration);
  // Whatever it learned from there, it stays in range.
  FUZZ_CHECK(Calibration::Decode((*calibration)->Encode()).ok());
}

// A calibration as the model store gives it back, used, dropped for another and saved.
void CheckCalibrationStore(FuzzedDataProvider& data) {
  const ModelKey key = {"model", "fingerprint", "tenant"};
  ModelStoreOptions options;
  options.max_bytes = kLargeStore;
  std::vector<std::string> warnings;
  const auto store = ModelStore::Open(options, &warnings);
  FUZZ_CHECK(store.ok());
  const std::vector<TokenId> tokens = {1, 2, 3, 1, 2, 3};
  (*store)->Learn(key, tokens, 0, 6);
  (*store)->SetCalibration(key, ConsumeCalibration(data));
  int learned = 0;
  {
    CalibrationStore calibrations(store->get(), /*max_calibrations=*/1);
    FUZZ_CHECK(calibrations.Peek(key) != nullptr);
    const auto calibration = calibrations.Get(key);
    learned = Use(data, *calibration);
    calibrations.Save();
    FUZZ_CHECK(calibrations.Get({"other", "fingerprint", "tenant"}) != calibration);
  }
  FUZZ_CHECK(learned == 0 || Calibration::Decode((*store)->Calibration(key)).ok());
  FUZZ_CHECK((*store)->bytes() <= kLargeStore);
}

}  // namespace
}  // namespace strata::draft

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  using namespace strata::draft;
  using strata::fuzz::SeedWriter;
  ModelFileContent content;
  content.key = {"model", "fingerprint", "tenant"};
  content.segments = {{{1, 2, 3, 4, 1, 2, 3}, 1, 7}, {{5, 6}, 0, 2}};
  content.calibration = "none";
  const std::string file = EncodeModelFile(content);
  const std::string body = file.substr(32);
  std::vector<std::string> seeds;
  for (uint8_t kind = 0; kind < 6; ++kind) {
    seeds.push_back(SeedWriter().Byte(kind).Bytes(kind == 0 || kind == 1 ? file : body).Finish());
  }
  const uint64_t size = Calibration().Encode().size();
  for (const uint8_t kind : {6, 7}) {
    SeedWriter seed;
    // One bucket's probability, at the first of them behind the header, becomes 0.5.
    seed.Byte(kind).Number(1, 0, 8).Number(32, 0, size).Text(std::string("\0\0\0\x3f", 4)).Byte(0);
    // One level of the first tier: order 1, one continuation of total 9.
    seed.Number(1, 0, kMaxLevels).Number(1, 1, kMaxContextOrder).Number(1, 0, kMaxContinuations);
    seed.Number(9, 0, UINT32_MAX).Number(5, 0, kVocab).Number(4, 0, UINT32_MAX);
    seeds.push_back(seed.Number(0, 0, kMaxLevels).Finish());
  }
  strata::fuzz::WriteSeeds(*argc, *argv, seeds);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace strata::draft;
  FuzzedDataProvider data(bytes, size);
  switch (data.ConsumeIntegral<uint8_t>() % 16) {
    case 0:
      CheckFile(data.ConsumeRemainingBytesAsString());
      break;
    case 1:
      CheckStore(data.ConsumeRemainingBytesAsString(), kSmallStore);
      break;
    case 2:
      CheckStore(Signed(2, data.ConsumeRemainingBytesAsString()), kSmallStore);
      break;
    case 3:
      CheckStore(Signed(2, data.ConsumeRemainingBytesAsString()), kLargeStore);
      break;
    case 4:
      CheckFile(Signed(1, data.ConsumeRemainingBytesAsString()));
      break;
    case 6:
      CheckCalibration(data);
      break;
    case 7:
      CheckCalibrationStore(data);
      break;
    default:
      CheckFile(Signed(2, data.ConsumeRemainingBytesAsString()));
  }
  return 0;
}
