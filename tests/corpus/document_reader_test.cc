#include "services/draft/corpus/document_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>

#include "services/draft/corpus/byte_source.h"
#include "tests/corpus/corpus_testing.h"

namespace strata::draft {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TempDir;
using testing::WriteFile;

std::string Gzip(const std::string& text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string Xz(const std::string& text) {
  std::string out(lzma_stream_buffer_bound(text.size()), '\0');
  size_t size = 0;
  EXPECT_EQ(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, nullptr,
                                    reinterpret_cast<const uint8_t*>(text.data()), text.size(),
                                    reinterpret_cast<uint8_t*>(out.data()), &size, out.size()),
            LZMA_OK);
  out.resize(size);
  return out;
}

std::string Zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  const size_t size = ZSTD_compress2(
      [] {
        static ZSTD_CCtx* const context = ZSTD_createCCtx();
        ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
        return context;
      }(),
      out.data(), out.size(), text.data(), text.size());
  EXPECT_FALSE(ZSTD_isError(size));
  out.resize(size);
  return out;
}

struct Codec {
  std::string suffix;
  std::string (*compress)(const std::string&);
};
const Codec kCodecs[] = {{".gz", Gzip}, {".xz", Xz}, {".zst", Zstd}};

struct Read {
  absl::Status status;
  std::vector<std::string> documents;  // pieces joined
  std::vector<std::string> pieces;
  ReadCounts counts;
};

Read ReadAll(const std::string& path, const ReadOptions& options = {}, bool named = true) {
  Read read;
  read.status = ReadDocuments(
      {path, 0, named}, options,
      [&](const std::string& text, bool continues) {
        EXPECT_FALSE(text.empty());
        read.pieces.push_back(text);
        if (!continues) read.documents.emplace_back();
        read.documents.back() += text;
        return absl::OkStatus();
      },
      [](uint64_t) {}, read.counts);
  return read;
}

// Longer than every buffer, and not of one pattern.
std::string LongText() {
  std::string text;
  for (int i = 0; text.size() < 3'000'000; ++i) text += "line " + std::to_string(i * 7919) + "\n";
  return text;
}

TEST(DocumentReader, TextInEveryCompression) {
  TempDir dir;
  const std::string text = LongText();
  WriteFile(dir / "a.md", text);
  EXPECT_THAT(ReadAll(dir / "a.md").documents, ElementsAre(text));
  for (const Codec& codec : kCodecs) {
    const std::string path = dir / ("a.txt" + codec.suffix);
    WriteFile(path, codec.compress(text));
    const Read read = ReadAll(path);
    ASSERT_TRUE(read.status.ok()) << read.status;
    EXPECT_THAT(read.documents, ElementsAre(text)) << path;
    // Several members in one file are one text.
    WriteFile(path, codec.compress("one ") + codec.compress("") + codec.compress("two"));
    EXPECT_THAT(ReadAll(path).documents, ElementsAre("one two")) << path;
    WriteFile(path, codec.compress(""));
    EXPECT_TRUE(ReadAll(path).status.ok());
    EXPECT_TRUE(ReadAll(path).documents.empty());
  }
}

TEST(DocumentReader, DamagedCompressionIsDataLoss) {
  TempDir dir;
  const std::string text = LongText();
  for (const Codec& codec : kCodecs) {
    const std::string path = dir / ("a.txt" + codec.suffix);
    const std::string whole = codec.compress(text);
    for (size_t size : {size_t{0}, size_t{1}, size_t{5}, whole.size() / 2, whole.size() - 1}) {
      WriteFile(path, whole.substr(0, size));
      const Read read = ReadAll(path);
      EXPECT_EQ(read.status.code(), absl::StatusCode::kDataLoss) << path << " " << size;
      EXPECT_THAT(std::string(read.status.message()), HasSubstr(path));
    }
    std::string damaged = whole;
    damaged[whole.size() / 2] = static_cast<char>(damaged[whole.size() / 2] ^ 0x10);
    for (const std::string& bad : {damaged, std::string("not compressed at all"), whole + "tail"}) {
      WriteFile(path, bad);
      EXPECT_EQ(ReadAll(path).status.code(), absl::StatusCode::kDataLoss) << path;
    }
  }
}

TEST(DocumentReader, Jsonl) {
  TempDir dir;
  const std::string lines =
      "\xEF\xBB\xBF{\"text\": \"one\", \"body\": \"x\"}\r\n"
      "\n"
      "  \t\n"
      "{\"text\": \"\"}\n"
      "{\"text\": \"two\\nlines \\u00e4 \\ud83d\\ude00\"}";
  WriteFile(dir / "a.jsonl", lines);
  EXPECT_THAT(ReadAll(dir / "a.jsonl").documents,
              ElementsAre("one", "two\nlines \xC3\xA4 \xF0\x9F\x98\x80"));
  for (const Codec& codec : kCodecs) {
    WriteFile(dir / ("a.ndjson" + codec.suffix), codec.compress(lines + "\n"));
    EXPECT_EQ(ReadAll(dir / ("a.ndjson" + codec.suffix)).documents.size(), 2u);
  }
  ReadOptions options;
  options.field = "body";
  const Read read = ReadAll(dir / "a.jsonl", options);
  EXPECT_THAT(read.documents, ElementsAre("x"));
  EXPECT_EQ(read.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(read.status.message()),
              HasSubstr("a.jsonl, line 4: it has no member \"body\""));
}

TEST(DocumentReader, UnfitLinesAreNamedOrSkipped) {
  TempDir dir;
  const std::string path = dir / "a.jsonl";
  const std::pair<std::string, std::string> cases[] = {
      {"{\"text\": ", "not JSON"},           {"[1]", "not a JSON object"},
      {"{\"text\": 5}", "not a string"},     {"{\"text\": \"a\"} x", "not JSON"},
      {"{\"text\": \"\\ud8\"}", "not JSON"}, {std::string(100000, '['), "not JSON"},
  };
  for (const auto& [line, message] : cases) {
    WriteFile(path, "{\"text\": \"good\"}\n" + line + "\n{\"text\": \"after\"}\n");
    Read read = ReadAll(path);
    EXPECT_EQ(read.status.code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(std::string(read.status.message()), HasSubstr("line 2"));
    EXPECT_THAT(std::string(read.status.message()), HasSubstr(message));
    ReadOptions options;
    options.skip_invalid_lines = true;
    read = ReadAll(path, options);
    EXPECT_TRUE(read.status.ok()) << read.status;
    EXPECT_THAT(read.documents, ElementsAre("good", "after"));
    EXPECT_EQ(read.counts.skipped_lines, 1u);
  }
  ReadOptions options;
  options.max_line_bytes = 30;
  WriteFile(path, "{\"text\": \"" + std::string(40, 'x') + "\"}\n");
  EXPECT_THAT(std::string(ReadAll(path, options).status.message()),
              HasSubstr("more than 30 bytes"));
}

TEST(DocumentReader, InvalidUtf8AndLoneSurrogatesAreNoReasonToFail) {
  TempDir dir;
  WriteFile(dir / "a.jsonl",
            "{\"text\": \"a\xFFz\xE2\x82\"}\n{\"text\": \"b \\ud800 \\\\ud800 \\udc00\\n\"}\n");
  const Read read = ReadAll(dir / "a.jsonl");
  ASSERT_TRUE(read.status.ok()) << read.status;
  EXPECT_THAT(read.documents,
              ElementsAre("a\xEF\xBF\xBDz\xEF\xBF\xBD", "b \xEF\xBF\xBD \\ud800 \xEF\xBF\xBD\n"));
  // Text goes to the tokenizer as it is, which has its own rule for it.
  WriteFile(dir / "a.txt", "a\xFFz");
  EXPECT_THAT(ReadAll(dir / "a.txt").documents, ElementsAre("a\xFFz"));
}

TEST(DocumentReader, BinaryFilesAreLeftOutOrRefused) {
  TempDir dir;
  WriteFile(dir / "a.so", std::string("ELF\0\1", 5));
  EXPECT_EQ(ReadAll(dir / "a.so").status.code(), absl::StatusCode::kInvalidArgument);
  const Read read = ReadAll(dir / "a.so", {}, /*named=*/false);
  EXPECT_TRUE(read.status.ok());
  EXPECT_TRUE(read.documents.empty());
  EXPECT_EQ(read.counts.skipped_binary_files, 1u);
}

TEST(DocumentReader, LongDocumentsComeInPiecesCutAtLinesOrCharacters) {
  TempDir dir;
  ReadOptions options;
  options.max_piece_bytes = 10;
  WriteFile(dir / "a.txt", "aaaa\nbb\ncccccccccccccc\nd");
  EXPECT_THAT(ReadAll(dir / "a.txt", options).pieces,
              ElementsAre("aaaa\nbb\n", "cccccccccc", "cccc\nd"));
  WriteFile(dir / "a.jsonl", "{\"text\": \"aaaa\\nbb\\ncccccccccccccc\\nd\"}");
  EXPECT_THAT(ReadAll(dir / "a.jsonl", options).pieces,
              ElementsAre("aaaa\nbb\n", "cccccccccc", "cccc\nd"));
  WriteFile(dir / "b.txt",
            "aaaaaaaa\xE2\x82\xAC"
            "bbb");
  EXPECT_THAT(ReadAll(dir / "b.txt", options).pieces, ElementsAre("aaaaaaaa",
                                                                  "\xE2\x82\xAC"
                                                                  "bbb"));
  // Bytes that are never a character must not stop it.
  WriteFile(dir / "c.txt", std::string(25, '\x80'));
  EXPECT_THAT(ReadAll(dir / "c.txt", options).documents, ElementsAre(std::string(25, '\x80')));
  // Across the buffers of the reader, every byte once.
  const std::string text = LongText();
  WriteFile(dir / "d.txt", text);
  options.max_piece_bytes = 100'000;
  const Read read = ReadAll(dir / "d.txt", options);
  EXPECT_THAT(read.documents, ElementsAre(text));
  EXPECT_GT(read.pieces.size(), 29u);
}

TEST(ListInputs, FoldersRecursivelyInOrderWithoutHiddenFilesAndLinksToFolders) {
  TempDir dir;
  for (const char* name : {"b.txt", "a/z.txt", "a/b/c.txt", "a.txt", ".git/x", "a/.hidden"}) {
    WriteFile(dir / name, "text");
  }
  fs::create_directory_symlink(dir.path(), dir / "a/loop");
  const auto files = ListInputs({dir / "b.txt", dir.path()});
  ASSERT_TRUE(files.ok()) << files.status();
  std::vector<std::string> names;
  for (const InputFile& file : *files) names.push_back(fs::relative(file.path, dir.path()));
  EXPECT_THAT(names, ElementsAre("b.txt", "a.txt", "a/b/c.txt", "a/z.txt", "b.txt"));
  EXPECT_TRUE(files->front().named);
  EXPECT_FALSE(files->back().named);
  EXPECT_EQ(files->front().bytes, 4u);
}

TEST(ListInputs, CompressedFilesOfAFolderAreReadLikeOthers) {
  TempDir dir;
  WriteFile(dir / "plain.txt", "plain");
  for (const Codec& codec : kCodecs) {
    WriteFile(dir / ("sub/text.py" + codec.suffix), codec.compress("text" + codec.suffix));
    WriteFile(dir / ("sub/rows.jsonl" + codec.suffix),
              codec.compress("{\"text\": \"row" + codec.suffix + "\"}\n"));
  }
  const auto files = ListInputs({dir.path()});
  ASSERT_TRUE(files.ok()) << files.status();
  std::vector<std::string> documents;
  for (const InputFile& file : *files) {
    const Read read = ReadAll(file.path, {}, file.named);
    ASSERT_TRUE(read.status.ok()) << file.path << ": " << read.status;
    documents.insert(documents.end(), read.documents.begin(), read.documents.end());
  }
  EXPECT_THAT(documents, ElementsAre("plain", "row.gz", "row.xz", "row.zst", "text.gz", "text.xz",
                                     "text.zst"));
}

TEST(ListInputs, NamesWhatIsNotThere) {
  TempDir dir;
  const auto missing = ListInputs({dir / "nothing"});
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr(dir / "nothing"));
  EXPECT_EQ(ListInputs({"/dev/null"}).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace strata::draft
