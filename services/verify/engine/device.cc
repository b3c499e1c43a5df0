#include "services/verify/engine/device.h"

#include <charconv>
#include <optional>

namespace strata::engine {
namespace {

#if defined(STRATA_CUDA)
constexpr bool kBuiltWithCuda = true;
#else
constexpr bool kBuiltWithCuda = false;
#endif

// The N of "cuda:N"; 0 for "cuda" alone.
std::optional<int> CudaIndex(const std::string& name) {
  const std::string prefix = "cuda";
  if (name == prefix) return 0;
  if (!name.starts_with(prefix + ":")) return std::nullopt;
  int index = 0;
  const char* begin = name.data() + prefix.size() + 1;
  const char* end = name.data() + name.size();
  const auto [last, error] = std::from_chars(begin, end, index);
  if (error != std::errc() || last != end || index < 0) return std::nullopt;
  return index;
}

}  // namespace

Result<Device> ParseDevice(const std::string& name) {
  if (name == "cpu") return Device{};
  const auto index = CudaIndex(name);
  if (index && kBuiltWithCuda) return Device{Device::Kind::kCuda, *index};
  if (index) {
    return Status(ErrorCode::kUnimplemented, "device \"" + name +
                                                 "\" needs a build with CUDA "
                                                 "(-DSTRATA_CUDA=ON); this one has cpu alone");
  }
  return Status(ErrorCode::kUnimplemented, "device \"" + name + "\" is not supported (" +
                                               (kBuiltWithCuda ? "cpu, cuda, cuda:N" : "cpu") +
                                               ")");
}

}  // namespace strata::engine
