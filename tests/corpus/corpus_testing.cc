#include "tests/corpus/corpus_testing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

namespace strata::draft::testing {

TempDir::TempDir() {
  std::string name = (std::filesystem::temp_directory_path() / "strata-corpus-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) std::abort();
  path_ = name;
}
TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

void WriteFile(const std::string& path, const std::string& contents) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << contents;
  out.close();
  ASSERT_TRUE(out) << path;
}

void FlipBit(const std::string& path, size_t byte, int bit) {
  std::string contents = ReadFile(path);
  ASSERT_LT(byte, contents.size()) << path;
  contents[byte] = static_cast<char>(contents[byte] ^ 1 << bit);
  WriteFile(path, contents);
}

Documents RandomDocuments(uint64_t seed, int documents, int vocab_size) {
  std::mt19937_64 random(seed);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  Documents result;
  for (int i = 0; i < documents; ++i) {
    Tokens document;
    const size_t length = i % 7 == 0 ? below(2) : below(60);
    while (document.size() < length) {
      // Half of the time a stretch of an earlier document.
      if (!result.empty() && below(2) == 0) {
        const Tokens& earlier = result[below(result.size())];
        const size_t begin = below(earlier.size() + 1);
        const size_t end = begin + below(earlier.size() - begin + 1);
        document.insert(document.end(), earlier.begin() + begin, earlier.begin() + end);
      }
      // Squared, so that low tokens are frequent and the highest occurs too.
      const size_t a = below(vocab_size), b = below(vocab_size);
      document.push_back(static_cast<TokenId>(below(4) == 0 ? a : std::min(a, b)));
    }
    result.push_back(std::move(document));
  }
  return result;
}

Reference::Reference(const Documents& documents, const CountOptions& options) : options_(options) {
  for (const Tokens& document : documents) {
    for (size_t at = 1; at < document.size(); ++at) {
      for (size_t order = 1; order <= std::min<size_t>(at, options.max_order); ++order) {
        ++next_[Tokens(document.begin() + at - order, document.begin() + at)][document[at]];
      }
    }
  }
}

bool Reference::Find(const Tokens& context, ContextCounts& counts) const {
  counts = ContextCounts();
  const auto at = next_.find(context);
  if (at == next_.end()) return false;
  const bool prunable = context.size() > 1;
  std::vector<std::pair<TokenId, uint64_t>> ranked(at->second.begin(), at->second.end());
  // Stable: a tie stays with the lower token.
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  counts.order = static_cast<uint8_t>(context.size());
  for (const auto& [token, count] : ranked) {
    counts.total += static_cast<uint32_t>(count);
    if ((prunable && count < options_.prune_continuations) || counts.size == options_.top) continue;
    counts.continuations[counts.size++] = {token, static_cast<uint32_t>(count)};
  }
  return counts.size > 0 && (!prunable || counts.total >= options_.prune_count);
}

std::vector<Tokens> Reference::Contexts() const {
  std::vector<Tokens> contexts;
  ContextCounts counts;
  for (const auto& [context, next] : next_) {
    if (Find(context, counts)) contexts.push_back(context);
  }
  return contexts;
}

Evidence Reference::Match(const Tokens& context, int max_order, int levels) const {
  Evidence evidence;
  size_t order = std::min<size_t>(
      {context.size(), static_cast<size_t>(max_order), static_cast<size_t>(options_.max_order)});
  for (; order > 0 && evidence.levels < levels; --order) {
    ContextCounts counts;
    if (Find(Tokens(context.end() - order, context.end()), counts)) {
      evidence.level[evidence.levels++] = counts;
    }
  }
  return evidence;
}

std::string ToString(const ContextCounts& counts) {
  std::ostringstream out;
  out << int{counts.order} << ": " << counts.total << " [ ";
  for (const Continuation& next : counts.list()) out << next.token << ":" << next.count << " ";
  out << "] ";
  return out.str();
}

std::string ToString(const Evidence& evidence) {
  std::string out;
  for (int i = 0; i < evidence.levels; ++i) out += ToString(evidence.level[i]);
  return out;
}

Evidence Ask(const Tier& tier, const Tokens& context, int max_order, int levels) {
  const ContextTail tail(context);
  const MatchQuery query = {&tail, max_order};
  Evidence evidence;
  tier.Match({&query, 1}, levels, {&evidence, 1});
  return evidence;
}

std::map<std::string, std::string> SstFiles(const std::string& snapshot_dir) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(snapshot_dir + "/rocksdb")) {
    if (entry.path().extension() == ".sst") {
      files[entry.path().filename().string()] = ReadFile(entry.path().string());
    }
  }
  return files;
}

std::map<std::string, std::string> AllFiles(const std::string& snapshot_dir) {
  namespace fs = std::filesystem;
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(snapshot_dir)) {
    if (!entry.is_regular_file()) continue;
    files[fs::relative(entry.path(), snapshot_dir).string()] = ReadFile(entry.path().string());
  }
  return files;
}

Manifest BuildSnapshot(const std::string& root, const Documents& documents, int64_t vocab_size,
                       const BuilderOptions& options) {
  auto builder =
      SnapshotBuilder::Create(root, "0123456789abcdef0123456789abcdef", vocab_size, options);
  EXPECT_TRUE(builder.ok()) << builder.status();
  if (!builder.ok()) return {};
  for (const Tokens& document : documents) {
    const absl::Status status = (*builder)->AddDocument(document);
    EXPECT_TRUE(status.ok()) << status;
  }
  auto manifest = (*builder)->Finish();
  EXPECT_TRUE(manifest.ok()) << manifest.status();
  return manifest.ok() ? *manifest : Manifest();
}

}  // namespace strata::draft::testing
