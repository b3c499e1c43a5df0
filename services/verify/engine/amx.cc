#include "services/verify/engine/amx.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace strata::engine {

#if defined(__x86_64__)
namespace {

bool HasTiles() {
  // CPUID.(7, 0).EDX; not all compilers know their names.
  constexpr uint32_t kAmxBf16 = 1u << 22;
  constexpr uint32_t kAmxTile = 1u << 24;
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kAmxBf16) != 0 &&
         (edx & kAmxTile) != 0 && __builtin_cpu_supports("avx512bf16") != 0;
}

bool MayUseTiles() {
  // From Linux's <asm/prctl.h>: state that a process must ask for (Linux 5.16; EINVAL before).
  constexpr int kRequestPermission = 0x1023;
  constexpr int kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool AmxIsUsable() {
  static const bool usable = HasTiles() && MayUseTiles();
  return usable;
}

#else

bool AmxIsUsable() { return false; }

#endif

}  // namespace strata::engine
