#ifndef STRATA_SERVICES_VERIFY_SERVER_FLAGS_H_
#define STRATA_SERVICES_VERIFY_SERVER_FLAGS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "common/auth/quotas.h"
#include "common/rpc/credentials.h"
#include "common/rpc/serving.h"
#include "services/draft/hosting/hierarchy_flags.h"
#include "services/verify/engine/engine.h"
#include "services/verify/scheduler/scheduler.h"

namespace strata::verify {

// The configuration: see common/config for where it comes from, flags.cc for the help texts.
struct Flags {
  rpc::ServingFlags serving;
  // Empty: no authentication.
  std::string auth_tokens;
  bool insecure_auth = false;
  auth::Quotas quotas;
  engine::EngineOptions engine;
  bool require_exact = false;
  std::string model_id;
  SchedulerOptions scheduler;
  uint32_t default_max_tokens = 256;
  double trace_sample = 0;
  // "embedded", "remote" or "off".
  std::string draft;
  std::string draft_address;
  double draft_deadline_ms = 20;
  uint32_t draft_ahead_nodes = 64;
  bool draft_tls = false;
  rpc::TlsFiles draft_tls_files;
  draft::HierarchyFlags hierarchy;
};

// Reads the configuration. Returns nothing after having printed help, version, the configuration or
// what is wrong; *exit_code is then what main() is to return.
std::optional<Flags> ParseFlags(int argc, char** argv, int* exit_code);

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SERVER_FLAGS_H_
