#include "services/verify/scheduler/waiting_queue.h"

#include <utility>

namespace strata::verify {

void WaitingQueue::Push(WaitingRequest request) {
  std::deque<Numbered>& line = tenants_[request.request.tenant];
  line.push_back({arrivals_++, std::move(request)});
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
