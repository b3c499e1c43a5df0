// Reading corpus snapshots whose bytes may be anything: manifests, keys, rows, and whole folders of
// which one file was damaged. The first byte of the input says which.

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "services/draft/corpus/corpus_tier.h"
#include "services/draft/corpus/file_util.h"
#include "services/draft/corpus/manifest.h"
#include "services/draft/corpus/snapshot_format.h"
#include "services/draft/corpus/snapshot_verifier.h"
#include "tests/corpus/corpus_testing.h"
#include "tests/fuzz/fuzz_check.h"
#include "tests/fuzz/fuzz_seed.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kVocab = 100;

void CheckNode(const ContextNode& node, int64_t vocab) {
  FUZZ_CHECK(node.size >= 1 && node.size <= kMaxContinuations);
  uint64_t sum = 0;
  for (const RankedToken& ranked : node.list()) {
    FUZZ_CHECK(ranked.token >= 0 && ranked.token < vocab && ranked.count >= 1);
    sum += ranked.count;
  }
  FUZZ_CHECK(sum <= node.total);
}

void FuzzManifest(const std::string& text) {
  const auto manifest = ParseManifest(text);
  if (!manifest.ok()) return;
  const std::string written = ManifestToJson(*manifest);
  const auto again = ParseManifest(written);
  FUZZ_CHECK(again.ok());
  FUZZ_CHECK(ManifestToJson(*again) == written);
}

void FuzzRow(FuzzedDataProvider& data) {
  const int64_t vocab = data.ConsumeIntegralInRange<int64_t>(1, 300);
  const std::vector<uint8_t> path = data.ConsumeBytes<uint8_t>(kMaxContextOrder);
  const std::string row = data.ConsumeRemainingBytesAsString();
  uint64_t contexts = 0;
  const absl::Status whole = RowWalker::VisitAll(
      row, vocab, kMaxContextOrder, [&](std::span<const TokenId> below, const ContextNode& node) {
        FUZZ_CHECK(below.size() < static_cast<size_t>(kMaxContextOrder));
        CheckNode(node, vocab);
        ++contexts;
        return absl::OkStatus();
      });
  FUZZ_CHECK(!whole.ok() || contexts > 0);
  RowWalker walker(row, vocab);
  if (walker.First() != RowWalker::Step::kFound) {
    FUZZ_CHECK(!whole.ok());
    return;
  }
  for (const uint8_t token : path) {
    CheckNode(walker.node(), vocab);
    if (walker.node().children != Children::kInline) break;
    const RowWalker::Step step = walker.Down(token);
    FUZZ_CHECK(step != RowWalker::Step::kDamaged || !whole.ok());
    if (step != RowWalker::Step::kFound) break;
  }
}

void FuzzKeys(const std::string& bytes) {
  std::vector<TokenId> context;
  if (DecodeKey(bytes, kVocab, context).ok()) FUZZ_CHECK(EncodeKey(context) == bytes);
  if (DecodeShardKey(bytes, kVocab, context).ok()) FUZZ_CHECK(EncodeShardKey(context) == bytes);
  TokenId token = 0;
  if (DecodeShardCountKey(bytes, kVocab, token).ok()) {
    FUZZ_CHECK(EncodeShardCountKey(token) == bytes);
  }
  std::vector<RankedToken> next;
  if (DecodeShardValue(bytes, kVocab, next).ok()) {
    FUZZ_CHECK(!next.empty());
    for (const RankedToken& ranked : next) {
      FUZZ_CHECK(ranked.token >= 0 && ranked.token < kVocab && ranked.count >= 1);
    }
  }
}

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

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  using namespace strata::draft;
  testing::TempDir root;
  BuilderOptions options;
  options.name = "s";
  const Manifest manifest =
      testing::BuildSnapshot(root.path(), testing::RandomDocuments(2, 40, kVocab), kVocab, options);
  ContextTree tree;
  tree.token = 3;
  tree.node.total = 300;
  tree.node.size = 2;
  tree.node.ranked[0] = {7, 200};
  tree.node.ranked[1] = {99, 5};
  ContextTree child = tree;
  tree.node.children = Children::kInline;
  child.token = 4;
  tree.inline_children = {child, child};
  tree.inline_children[1].token = 90;
  std::string row;
  EncodeRow(tree, row);
  const std::string path(kMaxContextOrder, '\x04');
  // The vocabulary is 1 + the two bytes' value modulo 300; the last byte is the kind.
  strata::fuzz::WriteSeeds(
      *argc, *argv,
      {ManifestToJson(manifest) + std::string(1, '\0'),
       EncodeKey(std::vector<strata::TokenId>{5, 6}) + "\x01",
       path + row + std::string("\x63\0\x03", 3),
       // The second file, unsigned, at its tenth byte.
       std::string(24, '\x05') + "xyz" + std::string("\x03\0\x0a\0\0\x01\x02", 7)});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  const uint8_t kind = data.ConsumeIntegral<uint8_t>();
  // Whole folders take milliseconds, the others microseconds.
  if (kind % 64 == 2) {
    static strata::draft::Folder folder;
    folder.Fuzz(data);
  } else if (kind % 8 == 0) {
    strata::draft::FuzzManifest(data.ConsumeRemainingBytesAsString());
  } else if (kind % 8 == 1) {
    strata::draft::FuzzKeys(data.ConsumeRemainingBytesAsString());
  } else {
    strata::draft::FuzzRow(data);
  }
  return 0;
}
