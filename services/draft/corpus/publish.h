#ifndef STRATA_SERVICES_DRAFT_CORPUS_PUBLISH_H_
#define STRATA_SERVICES_DRAFT_CORPUS_PUBLISH_H_

#include <string>

#include "absl/status/statusor.h"

namespace strata::draft {

// Makes a snapshot, a folder beside CURRENT, the live one: CURRENT is replaced in one step, so that
// services see the old name or the new. What was live stays as it is, to go back to by the same
// call. Returns the name that was live before, empty for none. Only the manifest is looked at.
// NOT_FOUND if there is no such folder; FAILED_PRECONDITION for a shard, for an unfinished build,
// or for a snapshot of another tokenizer than the live one's: services would refuse it; else as
// ReadManifest.
absl::StatusOr<std::string> PublishSnapshot(const std::string& snapshot_dir);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_PUBLISH_H_
