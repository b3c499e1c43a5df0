// Snapshots damaged in every way: no crash, no wrong draft, and a status that says what.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "services/draft/corpus/corpus_tier.h"
#include "services/draft/corpus/file_util.h"
#include "services/draft/corpus/snapshot_verifier.h"
#include "services/draft/corpus/sst_output.h"
#include "services/draft/corpus/sst_session.h"
#include "tests/corpus/corpus_testing.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;
using testing::BuildSnapshot;
using testing::FlipBit;
using ::testing::HasSubstr;
using testing::RandomDocuments;
using testing::ReadFile;
using testing::Tokens;
using testing::WriteFile;

constexpr size_t kCache = 4 << 20;

class Damage : public ::testing::Test {
 protected:
  Damage() : documents_(RandomDocuments(1, 200, 100)) {
    BuilderOptions options;
    options.name = "s";
    manifest_ = BuildSnapshot(root_.path(), documents_, 100, options);
  }

  absl::Status Open() const { return CorpusTier::Open(root_.path(), kCache).status(); }
  absl::Status Verify() const {
    return VerifySnapshot(root_ / "s", [](double) {}).status();
  }
  std::string File(const std::string& name) const { return root_ / ("s/" + name); }
  // Writes the manifest anew, with right checksums for the files as they are.
  void Sign() {
    for (Manifest::File& file : manifest_.files) {
      const auto digest = DigestFile(File(file.path));
      ASSERT_TRUE(digest.ok());
      file.size = digest->size;
      file.xxh3 = digest->xxh3;
    }
    WriteFile(File(kManifestName), ManifestToJson(manifest_));
  }

  testing::TempDir root_;
  testing::Documents documents_;
  Manifest manifest_;
};

TEST_F(Damage, WholeSnapshotIsFine) {
  EXPECT_TRUE(Open().ok());
  EXPECT_TRUE(Verify().ok());
}

TEST_F(Damage, NoManifest) {
  fs::remove(File(kManifestName));
  EXPECT_EQ(Open().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(Open().message()), HasSubstr("has not finished"));
  EXPECT_EQ(CorpusTier::Open(root_ / "s", kCache).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Verify().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(Damage, NoFolderOrForeignFolder) {
  EXPECT_EQ(CorpusTier::Open(root_ / "none", kCache).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(CorpusTier::Open(root_ / "CURRENT", kCache).status().code(),
            absl::StatusCode::kNotFound);
  fs::create_directory(root_ / "empty");
  EXPECT_EQ(CorpusTier::Open(root_ / "empty", kCache).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(Damage, Current) {
  WriteFile(root_ / "CURRENT", "gone\n");
  EXPECT_EQ(Open().code(), absl::StatusCode::kNotFound);
  for (const std::string contents : {"", "\n", "../s\n", "..", "a/b"}) {
    WriteFile(root_ / "CURRENT", contents);
    EXPECT_EQ(Open().code(), absl::StatusCode::kDataLoss) << contents;
  }
  WriteFile(root_ / "CURRENT", std::string(1 << 20, 'x'));
  EXPECT_EQ(Open().code(), absl::StatusCode::kResourceExhausted);
  fs::remove(root_ / "CURRENT");
  EXPECT_EQ(Open().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(Damage, ForeignFormatVersion) {
  std::string text = ReadFile(File(kManifestName));
  const std::string version = "\"format_version\": 2";
  text.replace(text.find(version), version.size(), "\"format_version\": 99");
  WriteFile(File(kManifestName), text);
  EXPECT_EQ(Open().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(Open().message()), HasSubstr("format version 99"));
}

TEST_F(Damage, EveryFileMissingTruncatedOrLonger) {
  for (const Manifest::File& file : manifest_.files) {
    const std::string path = File(file.path);
    const std::string whole = ReadFile(path);
    std::vector<std::string> damaged = {whole + "x"};
    if (!whole.empty()) damaged.push_back(whole.substr(0, whole.size() / 2));
    if (!whole.empty()) damaged.push_back("");
    for (const std::string& contents : damaged) {
      WriteFile(path, contents);
      EXPECT_EQ(Open().code(), absl::StatusCode::kDataLoss) << file.path;
      EXPECT_THAT(std::string(Open().message()), HasSubstr(file.path));
      EXPECT_EQ(Verify().code(), absl::StatusCode::kDataLoss) << file.path;
    }
    fs::remove(path);
    EXPECT_EQ(Open().code(), absl::StatusCode::kDataLoss) << file.path;
    EXPECT_THAT(std::string(Open().message()), HasSubstr(file.path));
    WriteFile(path, whole);
  }
  EXPECT_TRUE(Open().ok());
}

TEST_F(Damage, EveryFileWithAFlippedBitFailsVerification) {
  std::mt19937_64 random(2);
  for (const Manifest::File& file : manifest_.files) {
    if (file.size == 0) continue;
    for (int round = 0; round < 10; ++round) {
      const size_t byte = random() % file.size;
      const int bit = static_cast<int>(random() % 8);
      FlipBit(File(file.path), byte, bit);
      EXPECT_EQ(Verify().code(), absl::StatusCode::kDataLoss) << file.path << " byte " << byte;
      FlipBit(File(file.path), byte, bit);
    }
  }
  EXPECT_TRUE(Verify().ok());
}

// Flips the service meets without `verify` having been run: each lookup gives what the
// whole snapshot gives, or less, and never a chain that is not in it.
TEST_F(Damage, FlippedBitsOfOpenedFilesGiveFewerDraftsNotWrongOnes) {
  const testing::Reference reference(documents_, CountOptions());
  const auto contexts = reference.Contexts();
  std::mt19937_64 random(3);
  uint64_t damaged_values = 0;
  int refused = 0;
  for (int round = 0; round < 60; ++round) {
    const Manifest::File* file = nullptr;
    do {
      file = &manifest_.files[random() % manifest_.files.size()];
    } while (!file->path.ends_with(".sst"));
    const size_t byte = random() % file->size;
    const int bit = static_cast<int>(random() % 8);
    FlipBit(File(file->path), byte, bit);
    auto tier = CorpusTier::Open(root_.path(), kCache);
    if (tier.ok()) {
      for (size_t i = 0; i < contexts.size(); i += 37) {
        const Evidence answer = testing::Ask(**tier, contexts[i]);
        for (int level = 0; level < answer.levels; ++level) {
          const ContextCounts& counts = answer.level[level];
          ContextCounts whole;
          ASSERT_TRUE(
              reference.Find(Tokens(contexts[i].end() - counts.order, contexts[i].end()), whole));
          ASSERT_EQ(testing::ToString(counts), testing::ToString(whole));
        }
      }
      damaged_values += (*tier)->damaged_values();
    } else {
      EXPECT_EQ(tier.status().code(), absl::StatusCode::kDataLoss) << tier.status();
      ++refused;
    }
    FlipBit(File(file->path), byte, bit);
  }
  EXPECT_GT(damaged_values, 0u);
  EXPECT_GT(refused + static_cast<int>(damaged_values), 10);
}

// The manifest agrees with the damage, so that RocksDB's own checks are alone.
TEST_F(Damage, SignedGarbageIsStillFound) {
  for (const Manifest::File& file : std::vector<Manifest::File>(manifest_.files)) {
    if (!file.path.ends_with(".sst")) continue;
    const std::string whole = ReadFile(File(file.path));
    WriteFile(File(file.path), whole.substr(0, whole.size() / 2));
    Sign();
    EXPECT_FALSE(Open().ok()) << file.path;
    EXPECT_FALSE(Verify().ok()) << file.path;
    WriteFile(File(file.path), whole);
    FlipBit(File(file.path), whole.size() / 3, 4);
    Sign();
    EXPECT_EQ(Verify().code(), absl::StatusCode::kDataLoss) << file.path;
    WriteFile(File(file.path), whole);
  }
  Sign();
  EXPECT_TRUE(Verify().ok());
  manifest_.contexts[2] += 1;
  Sign();
  EXPECT_EQ(Verify().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(Verify().message()), HasSubstr("contexts of order 3"));
}

// A vocabulary smaller than the tokens: values that RocksDB finds whole, but are not
// to be believed.
TEST_F(Damage, ValuesThatBreakTheirPromisesAreCountedAndGiveNothing) {
  manifest_.vocab_size = 20;
  Sign();
  EXPECT_EQ(Verify().code(), absl::StatusCode::kDataLoss);
  auto tier = CorpusTier::Open(root_.path(), kCache);
  ASSERT_TRUE(tier.ok()) << tier.status();
  for (TokenId token = 0; token < 20; ++token) {
    const Evidence answer = testing::Ask(**tier, {token});
    for (int level = 0; level < answer.levels; ++level) {
      for (const Continuation& next : answer.level[level].list()) EXPECT_LT(next.token, 20);
    }
  }
  EXPECT_GT((*tier)->damaged_values(), 0u);
}

TEST_F(Damage, SessionIdsAreOnlyWrittenIntoFilesThatAreUnderstood) {
  for (const Manifest::File& file : manifest_.files) {
    if (!file.path.ends_with(".sst")) continue;
    const std::string whole = ReadFile(File(file.path));
    const std::string path = root_ / "copy.sst";
    for (size_t size : {size_t{0}, size_t{52}, whole.size() / 2, whole.size() - 1}) {
      WriteFile(path, whole.substr(0, size));
      EXPECT_EQ(RewriteSessionId(path).code(), absl::StatusCode::kDataLoss);
      EXPECT_EQ(ReadFile(path), whole.substr(0, size));
    }
    // What was written already stays as it is: the id depends on the rest alone.
    WriteFile(path, whole);
    EXPECT_TRUE(RewriteSessionId(path).ok());
    EXPECT_EQ(ReadFile(path), whole);
    // Any damage of footer and metaindex is refused or leaves the file's length alone.
    std::mt19937_64 random(4);
    for (int round = 0; round < 300; ++round) {
      std::string damaged = whole;
      damaged[damaged.size() - 1 - random() % 200] = static_cast<char>(random());
      WriteFile(path, damaged);
      RewriteSessionId(path).IgnoreError();
      EXPECT_EQ(ReadFile(path).size(), whole.size());
    }
    break;
  }
}

}  // namespace
}  // namespace strata::draft
