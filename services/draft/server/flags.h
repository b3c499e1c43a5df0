#ifndef STRATA_SERVICES_DRAFT_SERVER_FLAGS_H_
#define STRATA_SERVICES_DRAFT_SERVER_FLAGS_H_

#include <optional>
#include <string>

#include "common/rpc/serving.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "services/draft/hosting/hierarchy_flags.h"

namespace strata::draft {

// The configuration: see common/config for where it comes from, flags.cc for the help texts.
struct Flags {
  rpc::ServingFlags serving;
  HierarchyFlags hierarchy;
  std::string tokenizer_fingerprint;
  DrafterLimits limits;
};

// Reads the configuration. Returns nothing after having printed help, version, the configuration or
// what is wrong; *exit_code is then what main() is to return.
std::optional<Flags> ParseFlags(int argc, char** argv, int* exit_code);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_SERVER_FLAGS_H_
