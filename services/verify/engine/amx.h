#ifndef STRATA_SERVICES_VERIFY_ENGINE_AMX_H_
#define STRATA_SERVICES_VERIFY_ENGINE_AMX_H_

#include <cstdint>

// The matrix unit of Intel's server CPUs since 2023 (AMX, Intel's Architecture Instruction Set
// Extensions, chapter 3): eight registers, tiles of up to 16 rows of 64 bytes. TDPBF16PS adds to a
// tile of fp32 the product of two of bf16, the second with pairs of its rows interleaved: an
// element becomes the sum of its own row's products with its own column, in an order that depends
// on how many there are alone. How many rows a tile has does not enter it, so what is computed in
// tiles is row-invariant by construction. The unit takes what is below the least normal number for
// zero.
namespace strata::engine {

inline constexpr int64_t kTileRows = 16;

// Whether this CPU has it and Linux lets this process use it, which is asked for once.
bool AmxIsUsable();

#if defined(__x86_64__)

#define STRATA_AMX \
  __attribute__((  \
      target("amx-tile,amx-bf16,avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

// What LDTILECFG reads.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void Set(int tile, int64_t tile_rows, int64_t tile_row_bytes) {
    rows[tile] = static_cast<uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<uint16_t>(tile_rows > 0 ? tile_row_bytes : 0);
  }
};

// The compiler's intrinsics do not tell it what memory they read.
STRATA_AMX inline void FenceTiles() { asm volatile("" ::: "memory"); }

#endif

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_AMX_H_
