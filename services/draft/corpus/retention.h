#ifndef STRATA_SERVICES_DRAFT_CORPUS_RETENTION_H_
#define STRATA_SERVICES_DRAFT_CORPUS_RETENTION_H_

#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace strata::draft {

// Removes old snapshots from `root`, the folder that holds them and CURRENT: of those that are
// whole by their manifest, all but the `keep` made last (by the time of the manifest's file). The
// live one and those named in `spared` stay in any case, and so do shards, unfinished builds and
// whatever else is there. A service that still has a removed one open goes on reading it on a
// local disk; on a network's it may not.
// Returns the names, oldest first. FAILED_PRECONDITION if CURRENT leads nowhere: then nothing is
// known to be old. What an interrupted call left is removed by the next.
absl::StatusOr<std::vector<std::string>> RemoveOldSnapshots(const std::string& root, size_t keep,
                                                            const std::set<std::string>& spared);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_RETENTION_H_
