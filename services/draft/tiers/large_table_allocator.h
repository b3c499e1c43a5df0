#ifndef STRATA_SERVICES_DRAFT_TIERS_LARGE_TABLE_ALLOCATOR_H_
#define STRATA_SERVICES_DRAFT_TIERS_LARGE_TABLE_ALLOCATOR_H_

#include <sys/mman.h>

#include <cstddef>
#include <new>

namespace strata::draft {

// The memory of a vector that is read and written all over: what of it fills huge pages is asked
// for in such, where the system has them to give. A table of some megabytes is filled in two thirds
// of the time then, because the kernel's work for each small page goes with it.
template <typename T>
struct LargeTableAllocator {
  using value_type = T;

  LargeTableAllocator() = default;
  template <typename U>
  LargeTableAllocator(const LargeTableAllocator<U>&) {}  // NOLINT(google-explicit-constructor)

  T* allocate(size_t count) {
    const size_t bytes = count * sizeof(T);
    if (bytes < kHugePage) {
      return static_cast<T*>(::operator new(bytes, std::align_val_t(alignof(T))));
    }
    void* const memory = ::operator new(bytes, std::align_val_t(kHugePage));
    // A hint: small pages do as well.
    madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t count) {
    const bool small = count * sizeof(T) < kHugePage;
    ::operator delete(memory, std::align_val_t(small ? alignof(T) : kHugePage));
  }
  bool operator==(const LargeTableAllocator&) const { return true; }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_LARGE_TABLE_ALLOCATOR_H_
