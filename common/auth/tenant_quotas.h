#ifndef STRATA_COMMON_AUTH_TENANT_QUOTAS_H_
#define STRATA_COMMON_AUTH_TENANT_QUOTAS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/auth/quotas.h"

namespace strata::auth {

// Keeps tenants within their quotas. What is allowed a minute is a bucket that holds a minute's
// worth and fills evenly, so that all of it may be used at once, and then at the rate. Errors
// are RESOURCE_EXHAUSTED with what is used up, how much there is, and WithRetryAfter.
//
// Remembers a tenant while it has requests under way or less than full buckets, which is a minute
// after its last request at most. Thread-safe.
class TenantQuotas {
 public:
  // Time since any fixed moment, never running backwards; for tests.
  using Clock = std::function<absl::Duration()>;

  TenantQuotas();
  explicit TenantQuotas(Clock clock);

  // A request under way. Ends with the object.
  class Request {
   public:
    Request(Request&& other) noexcept;
    Request& operator=(Request&&) = delete;
    // What was taken and not said to be used is given back.
    ~Request();

    // Takes the most tokens that the request may come to, once. OUT_OF_RANGE if it is more than
    // the tenant's whole minute: no waiting would help.
    absl::Status TakeTokens(uint64_t tokens);
    void SetUsedTokens(uint64_t tokens) { used_ = tokens; }

   private:
    friend class TenantQuotas;
    Request(TenantQuotas* owner, std::string tenant, const Quotas& quotas)
        : owner_(owner), tenant_(std::move(tenant)), quotas_(quotas) {}

    // Null once moved from.
    TenantQuotas* owner_;
    const std::string tenant_;
    const Quotas quotas_;
    uint64_t taken_ = 0;
    uint64_t used_ = 0;
  };

  // Counts a request against the tenant's quotas.
  absl::StatusOr<Request> Begin(const std::string& tenant, const Quotas& quotas)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Tenants that are remembered.
  size_t size() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // How much of a minute's worth is used; it drains with time.
  struct Bucket {
    double used = 0;
    // Drains at `per_minute`.
    void Drain(absl::Duration time, uint64_t per_minute);
    // Takes `amount` if it fits; else how long until it does.
    absl::Duration Take(double amount, uint64_t per_minute);
  };
  struct Tenant {
    uint64_t requests_under_way = 0;
    Bucket requests;
    Bucket tokens;
    // When the buckets were drained last.
    absl::Duration drained_at;
    // The quotas they were drained by.
    Quotas quotas;
  };

  // Brings the tenant's buckets up to now.
  void Drain(Tenant& tenant, const Quotas& quotas) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Forgets who has nothing under way and nothing used.
  void Sweep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status TakeTokens(const std::string& tenant, const Quotas& quotas, uint64_t tokens)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void End(const std::string& tenant, uint64_t unused_tokens) ABSL_LOCKS_EXCLUDED(mutex_);

  const Clock clock_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<std::string, Tenant> tenants_ ABSL_GUARDED_BY(mutex_);
  // Sweeping at twice what was left makes it cheap.
  size_t sweep_at_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace strata::auth

#endif  // STRATA_COMMON_AUTH_TENANT_QUOTAS_H_
