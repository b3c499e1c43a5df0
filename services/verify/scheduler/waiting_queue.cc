#include "services/verify/scheduler/waiting_queue.h"

#include <algorithm>
#include <utility>

namespace strata::verify {

void WaitingQueue::Push(WaitingRequest request) {
  const std::string tenant = request.request.tenant;
  if (const auto line = tenants_.find(tenant); line != tenants_.end()) {
    line->second.push_back({arrivals_, std::move(request)});
  } else {
    // No empty one is left behind, whatever throws.
    std::deque<Numbered> first;
    first.push_back({arrivals_, std::move(request)});
    tenants_.emplace(tenant, std::move(first));
  }
  ++arrivals_;
  ++size_;
}

WaitingQueue::Tenants::const_iterator WaitingQueue::NextTenant(const ActiveCounts& active) const {
  auto best = tenants_.end();
  int best_count = 0;
  for (auto it = tenants_.begin(); it != tenants_.end(); ++it) {
    const auto found = active.find(it->first);
    const int count = found == active.end() ? 0 : found->second;
    if (best == tenants_.end() || count < best_count ||
        (count == best_count && it->second.front().number < best->second.front().number)) {
      best = it;
      best_count = count;
    }
  }
  return best;
}

const WaitingRequest& WaitingQueue::Next(const ActiveCounts& active) const {
  return NextTenant(active)->second.front().waiting;
}

WaitingRequest WaitingQueue::Pop(const ActiveCounts& active) {
  const auto tenant = tenants_.find(NextTenant(active)->first);
  WaitingRequest next = std::move(tenant->second.front().waiting);
  tenant->second.pop_front();
  if (tenant->second.empty()) tenants_.erase(tenant);
  --size_;
  return next;
}

WaitingQueue::Tenants::const_iterator WaitingQueue::TenantWithMost() const {
  return std::max_element(tenants_.begin(), tenants_.end(), [](const auto& a, const auto& b) {
    return a.second.size() < b.second.size();
  });
}

bool WaitingQueue::MakesWayFor(const std::string& tenant) const {
  if (tenants_.empty()) return false;
  const auto own = tenants_.find(tenant);
  const size_t waiting = own == tenants_.end() ? 0 : own->second.size();
  return TenantWithMost()->second.size() >= waiting + 2;
}

WaitingRequest WaitingQueue::TakeNewestOfMost() {
  const auto tenant = tenants_.find(TenantWithMost()->first);
  WaitingRequest newest = std::move(tenant->second.back().waiting);
  tenant->second.pop_back();
  if (tenant->second.empty()) tenants_.erase(tenant);
  --size_;
  return newest;
}

std::vector<WaitingRequest> WaitingQueue::TakeCancelled() {
  std::vector<WaitingRequest> taken;
  for (auto tenant = tenants_.begin(); tenant != tenants_.end();) {
    std::deque<Numbered> kept;
    for (Numbered& numbered : tenant->second) {
      if (numbered.waiting.sink->cancelled()) {
        taken.push_back(std::move(numbered.waiting));
      } else {
        kept.push_back(std::move(numbered));
      }
    }
    tenant->second.swap(kept);
    tenant = tenant->second.empty() ? tenants_.erase(tenant) : std::next(tenant);
  }
  size_ -= taken.size();
  return taken;
}

std::vector<WaitingRequest> WaitingQueue::TakeAll() {
  std::vector<WaitingRequest> taken;
  taken.reserve(size_);
  for (auto& [tenant, line] : tenants_) {
    for (Numbered& numbered : line) taken.push_back(std::move(numbered.waiting));
  }
  tenants_.clear();
  size_ = 0;
  return taken;
}

}  // namespace strata::verify
