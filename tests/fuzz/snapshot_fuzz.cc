// Corpus snapshots of which one file is damaged, with and without a manifest that agrees with the
// damage. An input takes milliseconds; corpus_rows_fuzz.cc has what lies behind the checksums.

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "services/draft/corpus/corpus_tier.h"
#include "services/draft/corpus/file_util.h"
#include "services/draft/corpus/manifest.h"
#include "services/draft/corpus/snapshot_verifier.h"
#include "tests/corpus/corpus_testing.h"
#include "tests/fuzz/fuzz_check.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kVocab = 100;

// A small snapshot, and copies of it to be damaged.
class Folder {
 public:
  Folder() : documents_(testing::RandomDocuments(1, 60, static_cast<int>(kVocab))) {
    BuilderOptions options;
    options.name = "s";
    manifest_ = testing::BuildSnapshot(root_.path(), documents_, kVocab, options);
    for (const auto& entry : fs::recursive_directory_iterator(root_ / "s")) {
      if (entry.is_regular_file()) files_.push_back(entry.path().string());
    }
    std::sort(files_.begin(), files_.end());
    for (const std::string& file : files_) contents_.push_back(testing::ReadFile(file));
  }

  void Fuzz(FuzzedDataProvider& data) {
    const size_t which = data.ConsumeIntegralInRange<size_t>(0, files_.size() - 1);
    // With right checksums in the manifest the reader behind them is reached.
    const bool sign = data.ConsumeBool();
    std::string contents = contents_[which];
    const size_t at = data.ConsumeIntegralInRange<size_t>(0, contents.size());
    const size_t cut = data.ConsumeIntegralInRange<size_t>(0, contents.size() - at);
    const std::vector<uint8_t> probe = data.ConsumeBytes<uint8_t>(24);
    const std::string put = data.ConsumeRemainingBytesAsString();
    contents.replace(at, std::min(cut, put.size() + 16), put);
    testing::WriteFile(files_[which], contents);
    const std::string manifest_path = root_ / ("s/" + std::string(kManifestName));
    if (sign && files_[which] != manifest_path) Sign(manifest_path);

    auto tier = CorpusTier::Open(root_.path(), 1 << 20);
    if (tier.ok()) {
      std::vector<TokenId> context = documents_[1 % documents_.size()];
      for (const uint8_t byte : probe) {
        context.push_back(static_cast<TokenId>(byte % kVocab));
        const Evidence evidence = testing::Ask(**tier, context);
        FUZZ_CHECK(evidence.levels <= kMaxLevels);
      }
    }
    tier = absl::CancelledError();
    VerifySnapshot(root_ / "s", [](double) {}).status().IgnoreError();
    for (size_t i = 0; i < files_.size(); ++i) {
      if (i == which || files_[i] == manifest_path) testing::WriteFile(files_[i], contents_[i]);
    }
  }

 private:
  void Sign(const std::string& manifest_path) {
    Manifest manifest = manifest_;
    for (Manifest::File& file : manifest.files) {
      const auto digest = DigestFile(root_ / ("s/" + file.path));
      if (!digest.ok()) return;
      file.size = digest->size;
      file.xxh3 = digest->xxh3;
    }
    testing::WriteFile(manifest_path, ManifestToJson(manifest));
  }

  testing::TempDir root_;
  const testing::Documents documents_;
  Manifest manifest_;
  std::vector<std::string> files_;
  std::vector<std::string> contents_;
};

}  // namespace
}  // namespace strata::draft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  static strata::draft::Folder folder;
  FuzzedDataProvider data(bytes, size);
  folder.Fuzz(data);
  return 0;
}
