#ifndef STRATA_TESTS_BENCH_REPLAY_FLAGS_H_
#define STRATA_TESTS_BENCH_REPLAY_FLAGS_H_

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "common/base/draft_tree.h"
#include "services/draft/hierarchy/tree_drafter.h"
#include "tests/bench/replay/player.h"

namespace strata::replay {

// What the command line says; see flags.cc for the help texts.
struct Flags {
  std::string model_dir;
  // By default the model folder's name.
  std::string model_id;
  std::string corpus;
  size_t block_cache_mb = 256;
  std::string replay_file;
  // Tiers in use, by TierKind.
  std::bitset<kTierKinds> tiers;
  std::string model_tier_dir;
  draft::PolicyOptions policy;
  // Empty: draft in this process.
  std::string remote;
  PlayOptions play;
  // 0: all rows.
  size_t row_limit = 0;
  bool shuffled = false;
  uint64_t seed = 1;
  bool json = false;
  // Where each step's tree is written; empty: nowhere.
  std::string trees_file;

  bool uses(TierKind tier) const { return tiers[static_cast<size_t>(tier)]; }
};

// Parses the command line. Returns nothing after having printed help or what is wrong; *exit_code
// is then what main() is to return.
std::optional<Flags> ParseFlags(int argc, char** argv, int* exit_code);

}  // namespace strata::replay

#endif  // STRATA_TESTS_BENCH_REPLAY_FLAGS_H_
