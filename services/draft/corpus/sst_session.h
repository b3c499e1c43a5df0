#ifndef STRATA_SERVICES_DRAFT_CORPUS_SST_SESSION_H_
#define STRATA_SERVICES_DRAFT_CORPUS_SST_SESSION_H_

#include <string>

#include "absl/status/status.h"

namespace strata::draft {

// RocksDB writes a random session id into the properties of every SST file, and
// makes the keys of its block cache from it; so two builds of one corpus differ in these
// bytes alone. Replaces the id, in place, by one derived from the rest of
// the file: equal files stay equal, different files different.
// The file must be as SstFileWriter wrote it with the options of DatabaseOptions
// (format version 5, kxxHash64). DATA_LOSS if it is not.
absl::Status RewriteSessionId(const std::string& path);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_SST_SESSION_H_
