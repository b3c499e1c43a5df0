#ifndef STRATA_SERVICES_VERIFY_ENGINE_SELF_CHECK_H_
#define STRATA_SERVICES_VERIFY_ENGINE_SELF_CHECK_H_

#include <string>
#include <vector>

#include "services/verify/engine/engine.h"

namespace strata::engine {

// Runs random tokens through the whole model as one prefill, in chunks, one by one
// and as a draft tree with wrong branches, alone and beside another sequence, and
// compares every bit of the logits. Returns what differed; empty if nothing did.
// Needs some free KV pages; leaves none taken.
std::vector<std::string> FindRowVariance(Engine& engine);

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_SELF_CHECK_H_
