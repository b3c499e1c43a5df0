#ifndef STRATA_SERVICES_VERIFY_SCHEDULER_WAITING_QUEUE_H_
#define STRATA_SERVICES_VERIFY_SCHEDULER_WAITING_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "services/verify/scheduler/generation.h"

namespace strata::verify {

struct WaitingRequest {
  GenerationRequest request;
  std::shared_ptr<GenerationSink> sink;
  absl::Time arrival;
};

// Requests that wait for room. The next one is of the tenant that has the fewest requests under
// way, so that nobody waits behind another tenant's crowd; a tenant's own go in order of arrival,
// and so do tenants with equally many. Nor does a crowd take all places. Not thread-safe.
class WaitingQueue {
 public:
  // Requests under way by tenant; one that is not named has none.
  using ActiveCounts = absl::flat_hash_map<std::string, int>;

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  void Push(WaitingRequest request);
  // The one that Pop takes; the queue must not be empty.
  const WaitingRequest& Next(const ActiveCounts& active) const;
  WaitingRequest Pop(const ActiveCounts& active);
  // Whether a tenant has so many more waiting than `tenant` that the newest of them should make way
  // for one more of `tenant`'s where there is no room for both.
  bool MakesWayFor(const std::string& tenant) const;
  // The newest of the tenant that has most waiting; the queue must not be empty.
  WaitingRequest TakeNewestOfMost();
  // Takes out those whose sinks are cancelled.
  std::vector<WaitingRequest> TakeCancelled();
  std::vector<WaitingRequest> TakeAll();

 private:
  struct Numbered {
    uint64_t number = 0;
    WaitingRequest waiting;
  };
  using Tenants = std::map<std::string, std::deque<Numbered>>;

  Tenants::const_iterator NextTenant(const ActiveCounts& active) const;
  Tenants::const_iterator TenantWithMost() const;

  // No deque is empty.
  Tenants tenants_;
  size_t size_ = 0;
  uint64_t arrivals_ = 0;
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SCHEDULER_WAITING_QUEUE_H_
