#ifndef STRATA_SERVICES_DRAFT_HOSTING_HOSTED_HIERARCHY_H_
#define STRATA_SERVICES_DRAFT_HOSTING_HOSTED_HIERARCHY_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "services/draft/corpus/corpus_holder.h"
#include "services/draft/hierarchy/hierarchy_drafter.h"
#include "services/draft/hosting/hierarchy_flags.h"
#include "services/draft/tiers/model_store.h"
#include "services/draft/tiers/periodic_saver.h"

namespace strata::draft {

// The hierarchy of a process: its tiers, opened by flags, behind one drafter.
struct HostedHierarchy {
  // Null without a corpus.
  std::shared_ptr<const CorpusHolder> corpus;
  std::shared_ptr<ModelStore> model_store;
  std::shared_ptr<Drafter> drafter;

  // Saves what was learned every --save-interval, and once more when destroyed; not to outlive the
  // hierarchy.
  std::unique_ptr<PeriodicSaver> StartSaving(const HierarchyFlags& flags) const;
};

// Opens the corpus, if there is one, and loads the model tiers; what is found damaged is logged.
// `tokenizer_fingerprint`: if not empty, the tokenizer of all sequences, and one that the corpus
// must have. Errors as of CorpusHolder::Open, ModelStore::Open and NewDrafter.
absl::StatusOr<HostedHierarchy> OpenHierarchy(const HierarchyFlags& flags,
                                              const DrafterLimits& limits,
                                              const std::string& tokenizer_fingerprint);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_HOSTING_HOSTED_HIERARCHY_H_
