#ifndef STRATA_SERVICES_DRAFT_HOSTING_HIERARCHY_FLAGS_H_
#define STRATA_SERVICES_DRAFT_HOSTING_HIERARCHY_FLAGS_H_

#include <CLI/CLI.hpp>
#include <cstddef>
#include <string>

#include "services/draft/hierarchy/tree_drafter.h"
#include "services/draft/tiers/model_store.h"

namespace strata::draft {

// Options of a process that has a draft hierarchy: a draft service, or a verify service that drafts
// for itself.
struct HierarchyFlags {
  HierarchyFlags();

  // Empty: none.
  std::string corpus;
  size_t block_cache_mb = 256;
  double corpus_poll_s = 5;
  ModelStoreOptions model_store;
  double save_interval_s = 300;
  PolicyOptions policy;

  // --corpus…, --block-cache-mb, --model-tier-…, --calibrations, --save-interval, --policy,
  // --draft-threads and what policies take; listed below `group` by --help.
  void AddTo(CLI::App& app, const std::string& group);
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_HOSTING_HIERARCHY_FLAGS_H_
