#ifndef STRATA_COMMON_AUTH_TOKEN_TABLE_H_
#define STRATA_COMMON_AUTH_TOKEN_TABLE_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/auth/quotas.h"
#include "common/base/reloading.h"

namespace strata::auth {

// Who a token speaks for.
struct Caller {
  // 1 to 128 bytes.
  std::string tenant;
  absl::Time expires = absl::InfiniteFuture();
  Quotas quotas;
};

// The tokens that a service accepts, by their SHA-256: neither the file nor the process's memory
// holds a token that could be taken out of it, and what a look-up compares tells nothing of
// how near a guess was. Immutable.
class TokenTable {
 public:
  // A JSON object:
  //   {"tokens": [{"sha256": "<64 hex digits>", "tenant": "acme",
  //                "expires": "2027-01-31T00:00:00Z",             optional, RFC 3339
  //                "quotas": {"concurrent_requests": 4,           optional, each
  //                           "requests_per_minute": 60, "tokens_per_minute": 100000}}]}
  // A tenant may have several tokens, of which those that state quotas must state the same. What is
  // not stated is as in `defaults`. INVALID_ARGUMENT names the entry by its place, never by content
  // that could be a token.
  static absl::StatusOr<TokenTable> Parse(absl::string_view json, const Quotas& defaults);

  // Null if the token is unknown. One that has expired is found.
  const Caller* Find(absl::string_view token) const;
  size_t size() const { return callers_.size(); }

 private:
  // By the digest's 32 bytes.
  absl::flat_hash_map<std::string, Caller> callers_;
};

using ReloadingTokens = Reloading<std::string, TokenTable>;

// The table in the file at `path`, followed while it changes; logs each change. A file that is no
// good leaves the old table in use.
absl::StatusOr<std::unique_ptr<ReloadingTokens>> OpenTokenFile(const std::string& path,
                                                               const Quotas& defaults);

}  // namespace strata::auth

#endif  // STRATA_COMMON_AUTH_TOKEN_TABLE_H_
