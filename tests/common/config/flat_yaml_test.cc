#include "common/config/flat_yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <sstream>
#include <string>
#include <vector>

namespace strata::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

absl::StatusOr<std::vector<YamlEntry>> Read(const std::string& text) {
  std::istringstream stream(text);
  return ReadFlatYaml(stream, "f.yaml");
}

std::string Error(const std::string& text) {
  const auto entries = Read(text);
  return entries.ok() ? "no error" : std::string(entries.status().message());
}

TEST(FlatYaml, ReadsScalarsAndListsWithTheirLines) {
  const auto entries = Read(
      "# a comment\n"
      "---\n"
      "kv-tokens: 4096   # and another\n"
      "\n"
      "listen: 'unix:/run/a b'\n"
      "names: [a, \"b, c\"]\n"
      "more:\n"
      "  - d\n"
      "yes: 010\n");
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 5U);
  EXPECT_EQ((*entries)[0].key, "kv-tokens");
  EXPECT_EQ((*entries)[0].line, 3);
  EXPECT_FALSE((*entries)[0].is_list);
  EXPECT_THAT((*entries)[1].values, ElementsAre("unix:/run/a b"));
  EXPECT_TRUE((*entries)[2].is_list);
  EXPECT_THAT((*entries)[2].values, ElementsAre("a", "b, c"));
  EXPECT_THAT((*entries)[3].values, ElementsAre("d"));
  EXPECT_EQ((*entries)[3].line, 7);
  // Neither is a truth value or an octal number.
  EXPECT_EQ((*entries)[4].key, "yes");
  EXPECT_THAT((*entries)[4].values, ElementsAre("010"));
}

TEST(FlatYaml, EmptyDocumentsAreEmptyMaps) {
  for (const char* text : {"", "\n\n", "# only a comment\n", "---\n", "{}", "---\n...\n",
                           "\xEF\xBB\xBF", "\xEF\xBB\xBF# with a byte order mark\n"}) {
    const auto entries = Read(text);
    ASSERT_TRUE(entries.ok()) << text << entries.status();
    EXPECT_THAT(*entries, IsEmpty()) << text;
  }
}

TEST(FlatYaml, ReadsFilesOfWindows) {
  const auto entries = Read(
      "\xEF\xBB\xBF"
      "a: 1\r\nb: 2\r\n");
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 2U);
  EXPECT_EQ((*entries)[0].key, "a");
  EXPECT_THAT((*entries)[0].values, ElementsAre("1"));
}

TEST(FlatYaml, RefusesWhatIsNotFlat) {
  EXPECT_EQ(Error("a: 1\nb:\n  c: 2\n"),
            "f.yaml:3: 'b' has a map of its own, but settings are not nested: each is a line 'key: "
            "value'");
  EXPECT_THAT(Error("a: [1, [2]]"), StartsWith("f.yaml:1: 'a' has a list within its list"));
  EXPECT_THAT(Error("a: [{b: 1}]"), StartsWith("f.yaml:1: 'a' has a map"));
  EXPECT_THAT(Error("- a\n"), StartsWith("f.yaml:1: the file must consist of lines"));
  EXPECT_THAT(Error("kv-tokens=5\n"), StartsWith("f.yaml:1: the file must consist of lines"));
  EXPECT_THAT(Error("? [a]\n: b\n"), StartsWith("f.yaml:1: a list cannot be a key"));
  EXPECT_THAT(Error("? {a: b}\n: b\n"), StartsWith("f.yaml:1: a map cannot be a key"));
  EXPECT_THAT(Error("a: 1\n---\nb: 2\n"), HasSubstr("the file must hold one YAML document"));
}

TEST(FlatYaml, RefusesWhatHasNoValue) {
  EXPECT_THAT(Error("b: 1\na:\n"), StartsWith("f.yaml:2: 'a' has no value"));
  EXPECT_THAT(Error("a: ~"), StartsWith("f.yaml:1: 'a' has no value"));
  EXPECT_THAT(Error("a: null"), StartsWith("f.yaml:1: 'a' has no value"));
  EXPECT_THAT(Error("a: [~]"), StartsWith("f.yaml:1: 'a' has no value"));
  EXPECT_EQ(Error(": 1"), "f.yaml:1: a key is missing");
  EXPECT_EQ(Error("a: \"\""), "no error");
}

TEST(FlatYaml, RefusesAnchorsAliasesAndTags) {
  const std::string message = "YAML anchors and aliases cannot be used here";
  EXPECT_EQ(Error("a: &x 1\nb: *x\n"), "f.yaml:1: " + message);
  // Nine levels of nine aliases each: three gigabytes, were they followed.
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string alias = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + alias;
    for (int j = 0; j < 8; ++j) bomb += ", " + alias;
    bomb += "]\n";
  }
  EXPECT_EQ(Error(bomb), "f.yaml:1: " + message);
  EXPECT_THAT(Error("b: *unknown\n"), StartsWith("f.yaml:1: "));
  EXPECT_EQ(Error("a: !!int 5"), "f.yaml:1: YAML tags cannot be used here");
}

TEST(FlatYaml, RefusesWhatIsNoText) {
  EXPECT_EQ(Error("a: \xC3("), "f.yaml: is not UTF-8 text");
  EXPECT_EQ(Error("\xFF\xFE" + std::string("a\0:\0", 4)), "f.yaml: is not UTF-8 text");
  EXPECT_EQ(Error(std::string("a: b\0c", 6)), "f.yaml: holds a NUL byte, and so is no text");
  EXPECT_THAT(Error(std::string(70000, 'a')), StartsWith("f.yaml: is longer than 65536 bytes"));
}

TEST(FlatYaml, SaysWhereTheSyntaxIsWrong) {
  EXPECT_THAT(Error("a: 1\nb: [1, 2\n"), StartsWith("f.yaml:"));
  EXPECT_THAT(Error("a: 1\n\tb: 2\n"), StartsWith("f.yaml:2: "));
  EXPECT_THAT(Error(std::string(60000, '[')), StartsWith("f.yaml:1: "));
  EXPECT_THAT(Error(std::string(60000, '{')), StartsWith("f.yaml:1: "));
}

// What is read from mangled files does not matter; that each is read or refused does.
TEST(FlatYaml, SurvivesMangledFiles) {
  const std::string seed =
      "# comment\nkv-tokens: 4096\nlisten: \"127.0.0.1:0\"\nlist: [a, 'b', \"c\\n\"]\n"
      "text: |\n  more\n  lines\nfolded: >-\n  x\nmap: {a: 1}\nanchor: &a x\nalias: *a\n"
      "? key\n: !!str value\n--- \n%YAML 1.2\n...\n";
  const std::string pieces = "\n\t :-?[]{},#&*!|>'\"%@`\\~<=\xC3\xA9";
  std::mt19937 random(7);
  int refused = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string text = seed;
    const int edits = 1 + static_cast<int>(random() % 6);
    for (int j = 0; j < edits; ++j) {
      const size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = pieces[random() % pieces.size()];
          break;
        case 1:
          text.erase(at, 1 + random() % 40);
          break;
        default:
          text.insert(at, 1 + random() % 3, pieces[random() % pieces.size()]);
      }
      if (text.empty()) text = "a";
    }
    const auto entries = Read(text);
    if (entries.ok()) continue;
    ++refused;
    EXPECT_THAT(std::string(entries.status().message()), StartsWith("f.yaml:"));
  }
  EXPECT_GT(refused, 0);
}

TEST(YamlScalar, IsReadBackAsTheSame) {
  std::vector<std::string> texts = {
      "plain", "",       "~",      "null",       "true",   "12",  "- a", "a: b",  "a #b",
      " lead", "trail ", "a\nb\n", "\t",         "[a, b]", "{a}", "*x",  "&x",    "!x",
      "'q'",   "\"q\"",  "%",      "@",          "`",      "a,b", "---", "a\\nb", "...",
      "é",     "\x01",   "\x7F",   "\U0001F600", "?",      "? a", "|",   ">",     "=",
      "<<",    ":",      "a:",     "(a,b:",      "-",      "-1",  "+1",  ".5",    "Null"};
  std::mt19937 random(3);
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    const size_t length = random() % 8;
    for (size_t j = 0; j < length; ++j) text += static_cast<char>(1 + random() % 127);
    texts.push_back(text);
  }
  for (const std::string& text : texts) {
    const auto entries = Read("key: " + YamlScalar(text) + "\nlist: [" + YamlQuoted(text) + ", " +
                              YamlQuoted(text) + "]\n");
    ASSERT_TRUE(entries.ok()) << YamlScalar(text) << entries.status();
    ASSERT_EQ(entries->size(), 2U) << YamlScalar(text);
    EXPECT_THAT((*entries)[0].values, ElementsAre(text)) << YamlScalar(text);
    EXPECT_THAT((*entries)[1].values, ElementsAre(text, text)) << YamlQuoted(text);
  }
}

TEST(IsUtf8, KnowsItsEdges) {
  EXPECT_TRUE(IsUtf8(""));
  EXPECT_TRUE(IsUtf8("é\U0001F600"));
  EXPECT_FALSE(IsUtf8("\xC0\x80"));
  EXPECT_FALSE(IsUtf8("\xED\xA0\x80"));
  EXPECT_FALSE(IsUtf8("a\xC3"));
}

}  // namespace
}  // namespace strata::config
