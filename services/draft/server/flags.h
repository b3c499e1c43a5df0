#ifndef STRATA_SERVICES_DRAFT_SERVER_FLAGS_H_
#define STRATA_SERVICES_DRAFT_SERVER_FLAGS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "common/rpc/serving.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "services/draft/tiers/model_store.h"

namespace strata::draft {

// The configuration: see common/config for where it comes from, flags.cc for the help texts.
struct Flags {
  rpc::ServingFlags serving;
  std::string corpus;
  size_t block_cache_mb = 256;
  double corpus_poll_s = 5;
  std::string tokenizer_fingerprint;
  ModelStoreOptions model_store;
  double save_interval_s = 300;
  PolicyOptions policy;
  DrafterLimits limits;
};

// Reads the configuration. Returns nothing after having printed help, version, the configuration or
// what is wrong; *exit_code is then what main() is to return.
std::optional<Flags> ParseFlags(int argc, char** argv, int* exit_code);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_SERVER_FLAGS_H_
