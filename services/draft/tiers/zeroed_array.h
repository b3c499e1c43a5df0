#ifndef STRATA_SERVICES_DRAFT_TIERS_ZEROED_ARRAY_H_
#define STRATA_SERVICES_DRAFT_TIERS_ZEROED_ARRAY_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <type_traits>

namespace strata::draft {

// A fixed number of T, all of them zero at first. A large one lies on huge pages where the system
// has them (madvise): what is looked up by hash touches another page with every lookup, and small
// ones cost more to find, and to get, than what lies on them. T is one that zero bytes are a valid
// value of. Throws std::bad_alloc.
template <typename T>
class ZeroedArray {
  static_assert(std::is_trivially_destructible_v<T> && alignof(T) <= alignof(std::max_align_t));

 public:
  explicit ZeroedArray(size_t size) : size_(size) {
    if (size > SIZE_MAX / 2 / sizeof(T)) throw std::bad_alloc();
    if (bytes() < kLarge) {
      data_ = static_cast<T*>(std::calloc(size, sizeof(T)));
      if (data_ == nullptr && size > 0) throw std::bad_alloc();
      return;
    }
    void* memory =
        ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<T*>(memory);
    // The array is as good without.
    (void)::madvise(memory, bytes(), MADV_HUGEPAGE);
  }
  ~ZeroedArray() {
    if (bytes() < kLarge) {
      std::free(data_);
    } else {
      ::munmap(data_, bytes());
    }
  }
  ZeroedArray(const ZeroedArray&) = delete;
  ZeroedArray& operator=(const ZeroedArray&) = delete;

  size_t size() const { return size_; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }

 private:
  // Several huge pages, so that the ends, which they do not cover, are the smaller part.
  static constexpr size_t kLarge = size_t{8} << 20;

  size_t bytes() const { return size_ * sizeof(T); }

  const size_t size_;
  T* data_ = nullptr;
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_ZEROED_ARRAY_H_
