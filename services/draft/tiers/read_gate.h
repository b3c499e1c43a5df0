#ifndef STRATA_SERVICES_DRAFT_TIERS_READ_GATE_H_
#define STRATA_SERVICES_DRAFT_TIERS_READ_GATE_H_

#include <array>
#include <atomic>
#include <cstdint>

namespace strata::draft {

// Tells a writer when memory that it took out of a data structure can be freed: once the readers
// that may still see it have left. Readers never wait; the writer asks and, if need be, asks again
// later. (The grace period of read-copy-update with two counters, as in sleepable RCU: P. McKenney,
// "Sleepable RCU", LWN 2006.)
//
// Readers: any number of threads. Flip and Drained: one thread at a time.
class ReadGate {
 public:
  // A reader while it exists.
  class Pass {
   public:
    explicit Pass(ReadGate& gate) : gate_(gate), side_(gate.Enter()) {}
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    ~Pass() { gate_.readers_[side_].fetch_sub(1); }

   private:
    ReadGate& gate_;
    const uint32_t side_;
  };

  // From here on Drained speaks of the readers that are inside now. Needs Drained().
  void Flip() { turns_.fetch_add(1); }
  // Whether all who were inside at the last Flip have left.
  bool Drained() const { return readers_[(turns_.load() + 1) & 1].load() == 0; }

 private:
  uint32_t Enter() {
    for (;;) {
      const uint32_t side = turns_.load() & 1;
      readers_[side].fetch_add(1);
      // Else a Flip came between, and the writer may not wait for this side any more.
      if ((turns_.load() & 1) == side) return side;
      readers_[side].fetch_sub(1);
    }
  }

  std::atomic<uint32_t> turns_ = 0;
  std::array<std::atomic<uint32_t>, 2> readers_{};
};

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_TIERS_READ_GATE_H_
