#include "services/client/load/arrivals.h"

#include <cmath>

namespace strata::client::load {
namespace {

// SplitMix64's output function: neighbouring seeds become unrelated ones.
uint64_t Mix(uint64_t value) {
  value += 0x9E3779B97F4A7C15;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
  return value ^ (value >> 31);
}

}  // namespace

PoissonArrivals::PoissonArrivals(double rate, uint64_t seed) : rate_(rate), random_(Mix(seed)) {}

double PoissonArrivals::Next() {
  // std::exponential_distribution is each library's own. 53 bits: uniform in [0, 1).
  const double uniform = static_cast<double>(random_() >> 11) * 0x1p-53;
  now_ += -std::log1p(-uniform) / rate_;
  return now_;
}

uint64_t PartSeed(uint64_t seed, uint64_t part) { return Mix(Mix(seed) ^ part); }

}  // namespace strata::client::load
