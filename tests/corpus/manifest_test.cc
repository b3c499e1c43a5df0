#include "services/draft/corpus/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/draft/corpus/snapshot_format.h"

namespace strata::draft {
namespace {

using ::testing::HasSubstr;

Manifest Example() {
  Manifest manifest;
  manifest.tokenizer_fingerprint = "0123456789abcdef0123456789abcdef";
  manifest.vocab_size = 49152;
  manifest.options.max_order = 2;
  manifest.documents = 2;
  manifest.tokens = 100;
  manifest.contexts = {60, 90};
  manifest.files = {{"rocksdb/000008.sst", 1234, "00112233445566778899aabbccddeeff"}};
  return manifest;
}

std::string Replaced(std::string text, const std::string& what, const std::string& by) {
  const size_t at = text.find(what);
  EXPECT_NE(at, text.npos) << what;
  return at == text.npos ? text : text.replace(at, what.size(), by);
}

TEST(Manifest, RoundTrips) {
  auto back = ParseManifest(ManifestToJson(Example()));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(ManifestToJson(*back), ManifestToJson(Example()));
  EXPECT_EQ(back->options.max_order, 2);
  EXPECT_EQ(back->context_count(), 150u);
}

// Any change of a byte is either white space or refused.
TEST(Manifest, EveryDamagedByteIsRefused) {
  const std::string text = ManifestToJson(Example());
  for (size_t i = 0; i < text.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = text;
      damaged[i] = static_cast<char>(damaged[i] ^ 1 << bit);
      auto parsed = ParseManifest(damaged);
      if (parsed.ok()) {
        EXPECT_EQ(ManifestToJson(*parsed), text);
      } else if (parsed.status().code() == absl::StatusCode::kFailedPrecondition) {
        EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("format version"));
      } else {
        EXPECT_EQ(parsed.status().code(), absl::StatusCode::kDataLoss) << parsed.status();
      }
    }
    EXPECT_FALSE(ParseManifest(text.substr(0, i)).ok() && i + 1 < text.size());
  }
}

TEST(Manifest, ForeignFormatVersionIsNamed) {
  const auto parsed = ParseManifest(
      Replaced(ManifestToJson(Example()), "\"format_version\": 2", "\"format_version\": 1"));
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("format version 1"));
}

// As deep as a manifest's longest text can be: in its version, which is named, and beside it.
TEST(Manifest, DeepNestingIsRefused) {
  constexpr size_t kDepth = 7'000'000;
  const std::string deep = std::string(kDepth, '[') + std::string(kDepth, ']');
  const std::string version = "\"format_version\": 2";
  for (const std::string& by : {"\"format_version\": " + deep, version + ", \"more\": " + deep,
                                version + ", \"more\": " + std::string(kDepth, '[')}) {
    const auto parsed = ParseManifest(Replaced(ManifestToJson(Example()), version, by));
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("nested deeper"));
  }
}

// With a right checksum, as a hostile writer would make it.
TEST(Manifest, FilesOutsideTheSnapshotAreRefused) {
  for (const char* path : {"/etc/passwd", "../x", "a/../../x", "", ".", "a//b/"}) {
    Manifest manifest = Example();
    manifest.files[0].path = path;
    const auto parsed = ParseManifest(ManifestToJson(manifest));
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kDataLoss) << path;
  }
}

TEST(Manifest, ImpossibleNumbersAreRefused) {
  const auto refused = [](auto change) {
    Manifest manifest = Example();
    change(manifest);
    return ParseManifest(ManifestToJson(manifest)).status().code() == absl::StatusCode::kDataLoss;
  };
  EXPECT_TRUE(refused([](Manifest& m) { m.vocab_size = 0; }));
  EXPECT_TRUE(refused([](Manifest& m) { m.vocab_size = kMaxVocab + 1; }));
  EXPECT_TRUE(refused([](Manifest& m) { m.vocab_size = -1; }));
  EXPECT_TRUE(refused([](Manifest& m) {
    m.options.max_order = 0;
    m.contexts = {};
  }));
  EXPECT_TRUE(refused([](Manifest& m) { m.options.top = 0; }));
  EXPECT_TRUE(refused([](Manifest& m) { m.options.max_order = kMaxContextOrder + 1; }));
  EXPECT_TRUE(refused([](Manifest& m) { m.options.top = kMaxContinuations + 1; }));
  EXPECT_TRUE(refused([](Manifest& m) { m.options.prune_continuations = 0; }));
  EXPECT_TRUE(refused([](Manifest& m) { m.contexts = {1}; }));
  EXPECT_TRUE(refused([](Manifest& m) { m.files[0].xxh3 = "XYZ"; }));
  EXPECT_FALSE(refused([](Manifest&) {}));
}

}  // namespace
}  // namespace strata::draft
