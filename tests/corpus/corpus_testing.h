#ifndef STRATA_TESTS_CORPUS_CORPUS_TESTING_H_
#define STRATA_TESTS_CORPUS_CORPUS_TESTING_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "common/base/draft_tree.h"
#include "services/draft/corpus/context_trie.h"
#include "services/draft/corpus/snapshot_builder.h"
#include "services/draft/tiers/tier.h"

namespace strata::draft::testing {

using Tokens = std::vector<TokenId>;
using Documents = std::vector<Tokens>;

// A folder that is removed with everything in it.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& contents);
void FlipBit(const std::string& path, size_t byte, int bit);

// Documents with repetitions, so that contexts of every order recur. Some are
// empty or of one token.
Documents RandomDocuments(uint64_t seed, int documents, int vocab_size);

// What a snapshot should hold, by counting every n-gram in a map.
class Reference {
 public:
  Reference(const Documents& documents, const CountOptions& options);
  // False if the snapshot should not have the context.
  bool Find(const Tokens& context, ContextValue& value) const;
  // Every context of the options' orders that the snapshot should have.
  std::vector<Tokens> Contexts() const;
  // What CorpusTier::Lookup should append.
  std::vector<Chain> Lookup(const Tokens& context, size_t max_chains, size_t chain_length) const;

 private:
  // The tokens that follow, by count, a tie to the lower.
  std::vector<std::pair<uint64_t, TokenId>> Ranked(const Tokens& context) const;

  const CountOptions options_;
  std::map<Tokens, uint64_t> counts_;
};

// "total: [a:3 b:2 c:2] [d:1]", for comparing and for failure messages.
std::string ToString(const ContextValue& value);
std::string ToString(const std::vector<Chain>& chains);

// Builds ROOT/<options.name>; any error fails the test.
Manifest BuildSnapshot(const std::string& root, const Documents& documents, int64_t vocab_size,
                       const BuilderOptions& options);

}  // namespace strata::draft::testing

#endif  // STRATA_TESTS_CORPUS_CORPUS_TESTING_H_
