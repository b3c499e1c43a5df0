#ifndef STRATA_SERVICES_VERIFY_ENGINE_PHILOX_H_
#define STRATA_SERVICES_VERIFY_ENGINE_PHILOX_H_

#include <array>
#include <cstdint>

// Philox4x32-10, a counter-based random number generator: a pure function of
// (counter, key), so any number may be drawn at any time in any order (Salmon et
// al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011, section 3.3).
namespace strata::engine {

// `batch` counters side by side, lane by lane: x[lane][counter]. Rounds are
// loops over the batch so that the compiler vectorizes them.
template <int batch>
using PhiloxState = std::array<std::array<uint32_t, batch>, 4>;

template <int batch>
inline void Philox4x32(PhiloxState<batch>& x, uint32_t key0, uint32_t key1) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53;
  constexpr uint64_t kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9;
  constexpr uint32_t kWeyl1 = 0xBB67AE85;
  constexpr int kRounds = 10;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < batch; ++i) {
      const uint64_t product0 = kMultiplier0 * x[0][i];
      const uint64_t product1 = kMultiplier1 * x[2][i];
      const uint32_t next0 = static_cast<uint32_t>(product1 >> 32) ^ x[1][i] ^ key0;
      const uint32_t next2 = static_cast<uint32_t>(product0 >> 32) ^ x[3][i] ^ key1;
      x[1][i] = static_cast<uint32_t>(product1);
      x[3][i] = static_cast<uint32_t>(product0);
      x[0][i] = next0;
      x[2][i] = next2;
    }
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
}

// How token, position and seed name a number: the counter is (token / 4,
// position, 0) with the position in two words, the key is the seed, and the
// token's number is output word token % 4.
inline constexpr int kPhiloxBatch = 16;

// The 32 random bits of one token.
inline uint32_t PhiloxToken(uint64_t seed, uint64_t position, int32_t token) {
  const auto id = static_cast<uint32_t>(token);
  PhiloxState<1> x = {
      {{id / 4}, {static_cast<uint32_t>(position)}, {static_cast<uint32_t>(position >> 32)}, {0}}};
  Philox4x32<1>(x, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  return x[id % 4][0];
}

// bits[i] = PhiloxToken(seed, position, first + i). Requires first % 4 == 0.
inline void PhiloxTokens(uint64_t seed, uint64_t position, int32_t first,
                         std::array<uint32_t, 4 * kPhiloxBatch>& bits) {
  PhiloxState<kPhiloxBatch> x;
  for (int i = 0; i < kPhiloxBatch; ++i) {
    x[0][i] = static_cast<uint32_t>(first) / 4 + static_cast<uint32_t>(i);
    x[1][i] = static_cast<uint32_t>(position);
    x[2][i] = static_cast<uint32_t>(position >> 32);
    x[3][i] = 0;
  }
  Philox4x32<kPhiloxBatch>(x, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  for (int i = 0; i < kPhiloxBatch; ++i) {
    for (int lane = 0; lane < 4; ++lane) bits[4 * i + lane] = x[lane][i];
  }
}

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_PHILOX_H_
