#include "services/draft/tiers/model_file.h"

#include <gtest/gtest.h>

#include "absl/status/status.h"

namespace strata::draft {
namespace {

ModelFileContent Content() {
  ModelFileContent content;
  content.key = {"model", "fingerprint", std::string("tenant\0with a zero", 18)};
  content.segments.push_back({{1, 2, 3, 4}, 1, 3});
  content.segments.push_back({{INT32_MAX, 0}, 0, 2});
  content.calibration = std::string("\0blob", 5);
  return content;
}

TEST(ModelFileTest, RoundTrip) {
  const auto decoded = DecodeModelFile(EncodeModelFile(Content()));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->key, Content().key);
  ASSERT_EQ(decoded->segments.size(), 2u);
  EXPECT_EQ(decoded->segments[0].tokens, (std::vector<TokenId>{1, 2, 3, 4}));
  EXPECT_EQ(decoded->segments[0].first_key, 1u);
  EXPECT_EQ(decoded->segments[0].end_key, 3u);
  EXPECT_EQ(decoded->segments[1].tokens, (std::vector<TokenId>{INT32_MAX, 0}));
  EXPECT_EQ(decoded->calibration, Content().calibration);
}

// Bytes as a build of version 1 wrote them: model "m", no fingerprint, tenant "t", one segment.
TEST(ModelFileTest, ReadsVersion1WhichHasNoCalibration) {
  const unsigned char kFile[] = {
      0x53, 0x54, 0x52, 0x41, 0x54, 0x41, 0x4d, 0x54, 0x01, 0x00, 0x00, 0x00, 0x00,
      0x00, 0x00, 0x00, 0x2e, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xfc, 0xbc,
      0x5b, 0x86, 0x43, 0xcf, 0x96, 0x3c, 0x01, 0x00, 0x00, 0x00, 0x6d, 0x00, 0x00,
      0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x74, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,
      0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00,
      0x00, 0x07, 0x00, 0x00, 0x00, 0x2c, 0x01, 0x00, 0x00, 0x09, 0x00, 0x00, 0x00,
  };
  const auto decoded =
      DecodeModelFile(absl::string_view(reinterpret_cast<const char*>(kFile), sizeof(kFile)));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->key, (ModelKey{"m", "", "t"}));
  ASSERT_EQ(decoded->segments.size(), 1u);
  EXPECT_EQ(decoded->segments[0].tokens, (std::vector<TokenId>{7, 300, 9}));
  EXPECT_EQ(decoded->segments[0].first_key, 1u);
  EXPECT_EQ(decoded->segments[0].end_key, 2u);
  EXPECT_EQ(decoded->calibration, "");
}

TEST(ModelFileTest, EveryTruncationIsDataLoss) {
  const std::string data = EncodeModelFile(Content());
  for (size_t size = 0; size < data.size(); ++size) {
    EXPECT_TRUE(absl::IsDataLoss(DecodeModelFile(data.substr(0, size)).status())) << size;
  }
  EXPECT_TRUE(absl::IsDataLoss(DecodeModelFile(data + "x").status()));
}

TEST(ModelFileTest, EveryFlippedBitIsNoticed) {
  const std::string data = EncodeModelFile(Content());
  for (size_t i = 0; i < data.size(); ++i) {
    // Four bytes of the header are reserved.
    if (i >= 12 && i < 16) continue;
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = data;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      EXPECT_FALSE(DecodeModelFile(damaged).ok()) << "byte " << i << " bit " << bit;
    }
  }
}

TEST(ModelFileTest, ForeignVersionIsNamed) {
  std::string data = EncodeModelFile(Content());
  data[8] = 9;
  const absl::Status status = DecodeModelFile(data).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_NE(status.message().find("version 9"), absl::string_view::npos) << status;
}

// A right checksum over a wrong body, as a faulty writer would leave.
TEST(ModelFileTest, RangesAreCheckedBehindTheChecksum) {
  ModelFileContent content = Content();
  content.segments[0].end_key = 5;
  EXPECT_TRUE(absl::IsDataLoss(DecodeModelFile(EncodeModelFile(content)).status()));
  content = Content();
  content.segments[1].tokens[0] = -1;
  EXPECT_TRUE(absl::IsDataLoss(DecodeModelFile(EncodeModelFile(content)).status()));
}

}  // namespace
}  // namespace strata::draft
