#ifndef STRATA_SERVICES_CLIENT_LOAD_ARRIVALS_H_
#define STRATA_SERVICES_CLIENT_LOAD_ARRIVALS_H_

#include <cstdint>
#include <random>

namespace strata::client::load {

// A Poisson process: the gaps between arrivals are independent and exponential. The same seed gives
// the same arrivals with any standard library.
class PoissonArrivals {
 public:
  // `rate` a second, greater than 0.
  PoissonArrivals(double rate, uint64_t seed);

  // Seconds from the beginning to the next arrival.
  double Next();

 private:
  double rate_;
  double now_ = 0;
  std::mt19937_64 random_;
};

// A seed for part `part` of what was seeded with `seed`: parts are independent of each other.
uint64_t PartSeed(uint64_t seed, uint64_t part);

}  // namespace strata::client::load

#endif  // STRATA_SERVICES_CLIENT_LOAD_ARRIVALS_H_
