#ifndef STRATA_SERVICES_VERIFY_DRAFTING_EMBEDDED_DRAFT_SOURCE_H_
#define STRATA_SERVICES_VERIFY_DRAFTING_EMBEDDED_DRAFT_SOURCE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/draft/hierarchy/drafter.h"
#include "services/verify/drafting/draft_source.h"
#include "services/verify/drafting/identity.h"

namespace strata::verify {

// Drafts from a hierarchy in this process, on a thread of its own. Tells it only what is new of
// each sequence. `deadline` bounds the drafts of one Ask. Errors are those of
// Drafter::OpenSession (a foreign tokenizer is FAILED_PRECONDITION).
absl::StatusOr<std::unique_ptr<DraftSource>> NewEmbeddedDraftSource(
    std::shared_ptr<draft::Drafter> drafter, const DraftIdentity& identity,
    absl::Duration deadline);

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_DRAFTING_EMBEDDED_DRAFT_SOURCE_H_
