#ifndef STRATA_TESTS_CORPUS_CORPUS_TESTING_H_
#define STRATA_TESTS_CORPUS_CORPUS_TESTING_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "common/base/draft_tree.h"
#include "services/draft/corpus/count_options.h"
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

// What a snapshot should hold, by counting every context in a map.
class Reference {
 public:
  Reference(const Documents& documents, const CountOptions& options);
  // False if the snapshot should not have the context (most recent token last).
  bool Find(const Tokens& context, ContextCounts& counts) const;
  // Every context that the snapshot should have.
  std::vector<Tokens> Contexts() const;
  // What Tier::Match should answer.
  Evidence Match(const Tokens& context, int max_order, int levels) const;

 private:
  const CountOptions options_;
  std::map<Tokens, std::map<TokenId, uint64_t>> next_;
};

// "2: 7 [ 3:4 5:3 ] 1: 9 [ 3:9 ] ": order, total, continuations with counts. For comparing and for
// failure messages.
std::string ToString(const ContextCounts& counts);
std::string ToString(const Evidence& evidence);
// What `tier` answers about one context.
Evidence Ask(const Tier& tier, const Tokens& context, int max_order = kMaxContextOrder,
             int levels = kMaxLevels);

// The contents of a snapshot's SST files by name.
std::map<std::string, std::string> SstFiles(const std::string& snapshot_dir);
// Of all its files, the manifest included, by path in the snapshot.
std::map<std::string, std::string> AllFiles(const std::string& snapshot_dir);

// Builds ROOT/<options.name>; any error fails the test.
Manifest BuildSnapshot(const std::string& root, const Documents& documents, int64_t vocab_size,
                       const BuilderOptions& options);

}  // namespace strata::draft::testing

#endif  // STRATA_TESTS_CORPUS_CORPUS_TESTING_H_
