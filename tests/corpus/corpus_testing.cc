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
    for (size_t begin = 0; begin < document.size(); ++begin) {
      Tokens ngram;
      for (size_t i = begin; i < document.size() && i < begin + options.window(); ++i) {
        ngram.push_back(document[i]);
        ++counts_[ngram];
      }
    }
  }
}

std::vector<std::pair<uint64_t, TokenId>> Reference::Ranked(const Tokens& context) const {
  std::vector<std::pair<uint64_t, TokenId>> next;
  for (auto at = counts_.upper_bound(context);
       at != counts_.end() && at->first.size() > context.size() &&
       std::equal(context.begin(), context.end(), at->first.begin());
       ++at) {
    if (at->first.size() == context.size() + 1) next.push_back({at->second, at->first.back()});
  }
  std::sort(next.begin(), next.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  return next;
}

bool Reference::Find(const Tokens& context, ContextValue& value) const {
  value = ContextValue();
  const auto at = counts_.find(context);
  if (at == counts_.end() || at->second < options_.prune_count) return false;
  value.total = at->second;
  for (const auto& [count, token] : Ranked(context)) {
    if (static_cast<int>(value.branches.size()) == options_.top) break;
    Branch branch;
    Tokens path = context;
    path.push_back(token);
    branch.tokens[0] = token;
    branch.counts[0] = count;
    branch.length = 1;
    while (branch.length < options_.depth) {
      const auto next = Ranked(path);
      if (next.empty()) break;
      branch.counts[branch.length] = next[0].first;
      branch.tokens[branch.length++] = next[0].second;
      path.push_back(next[0].second);
    }
    value.branches.push_back(branch);
  }
  return !value.branches.empty();
}

std::vector<Tokens> Reference::Contexts() const {
  std::vector<Tokens> contexts;
  ContextValue value;
  for (const auto& [ngram, count] : counts_) {
    const bool is_order = std::count(options_.orders.begin(), options_.orders.end(),
                                     static_cast<int>(ngram.size())) > 0;
    if (is_order && Find(ngram, value)) contexts.push_back(ngram);
  }
  return contexts;
}

std::vector<Chain> Reference::Lookup(const Tokens& context, size_t max_chains,
                                     size_t chain_length) const {
  std::vector<Chain> chains;
  for (size_t i = options_.orders.size(); i-- > 0;) {
    const size_t order = static_cast<size_t>(options_.orders[i]);
    ContextValue value;
    if (order > context.size() || !Find(Tokens(context.end() - order, context.end()), value)) {
      continue;
    }
    for (const Branch& branch : value.branches) {
      Tokens tokens(branch.tokens.begin(), branch.tokens.begin() + branch.length);
      tokens.resize(std::min(tokens.size(), chain_length));
      bool known = false;
      for (const Chain& chain : chains) {
        known =
            known || (chain.tokens.size() >= tokens.size() &&
                      Tokens(chain.tokens.begin(), chain.tokens.begin() + tokens.size()) == tokens);
      }
      if (known || chains.size() == max_chains) continue;
      chains.push_back({tokens, static_cast<uint32_t>(branch.counts[0]),
                        static_cast<uint32_t>(value.total), static_cast<int>(order)});
    }
  }
  return chains;
}

std::string ToString(const ContextValue& value) {
  std::ostringstream out;
  out << value.total << ":";
  for (const Branch& branch : value.branches) {
    out << " [";
    for (int i = 0; i < branch.length; ++i)
      out << " " << branch.tokens[i] << ":" << branch.counts[i];
    out << " ]";
  }
  return out.str();
}

std::string ToString(const std::vector<Chain>& chains) {
  std::ostringstream out;
  for (const Chain& chain : chains) {
    out << chain.matched << ":" << chain.count << "/" << chain.total << " [";
    for (TokenId token : chain.tokens) out << " " << token;
    out << " ] ";
  }
  return out.str();
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
