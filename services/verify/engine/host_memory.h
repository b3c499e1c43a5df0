#ifndef STRATA_SERVICES_VERIFY_ENGINE_HOST_MEMORY_H_
#define STRATA_SERVICES_VERIFY_ENGINE_HOST_MEMORY_H_

#include <cstddef>
#include <memory_resource>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace strata::engine {

// Takes memory from a std::pmr::memory_resource, which must outlive it, and leaves what a vector's
// resize adds uninitialised: megabytes that are written in full afterwards.
template <typename T>
class HostAllocator {
 public:
  using value_type = T;
  using propagate_on_container_move_assignment = std::true_type;
  using propagate_on_container_swap = std::true_type;

  explicit HostAllocator(
      std::pmr::memory_resource* memory = std::pmr::new_delete_resource()) noexcept
      : memory_(memory) {}
  template <typename U>
  explicit HostAllocator(const HostAllocator<U>& other) noexcept : memory_(other.memory()) {}

  T* allocate(size_t count) { return static_cast<T*>(memory_->allocate(count * sizeof(T))); }
  void deallocate(T* p, size_t count) { memory_->deallocate(p, count * sizeof(T)); }

  template <typename U>
  void construct(U* p) noexcept {
    ::new (static_cast<void*>(p)) U;
  }
  template <typename U, typename... Args>
  void construct(U* p, Args&&... args) {
    ::new (static_cast<void*>(p)) U(std::forward<Args>(args)...);
  }

  std::pmr::memory_resource* memory() const { return memory_; }
  bool operator==(const HostAllocator& other) const { return memory_ == other.memory_; }

 private:
  std::pmr::memory_resource* memory_;
};

template <typename T>
using HostVector = std::vector<T, HostAllocator<T>>;

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_HOST_MEMORY_H_
