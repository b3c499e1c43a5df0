#ifndef STRATA_SERVICES_DRAFT_METRICS_HIERARCHY_METRICS_H_
#define STRATA_SERVICES_DRAFT_METRICS_HIERARCHY_METRICS_H_

#include "common/metrics/page.h"
#include "services/draft/corpus/corpus_holder.h"
#include "services/draft/hierarchy/drafter.h"
#include "services/draft/tiers/model_store.h"

namespace strata::draft {

// What tiers and hierarchy tell Prometheus; the README lists it. The last two may be null. Reads
// counters alone: no draft is held up but for moments.
void CollectHierarchy(const Drafter& drafter, const ModelStore* models, const CorpusHolder* corpus,
                      metrics::Page& page);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_METRICS_HIERARCHY_METRICS_H_
