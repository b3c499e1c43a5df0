#include "common/trace/context.h"

#include <algorithm>
#include <random>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace strata::trace {
namespace {

// "00-<32 digits>-<16 digits>-<2 digits>"
constexpr size_t kLength = 55;
constexpr size_t kTraceId = 3;
constexpr size_t kSpanId = 36;
constexpr size_t kFlags = 53;

bool IsHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return absl::ascii_isxdigit(c) && !absl::ascii_isupper(c);
  });
}

uint8_t DigitOf(char c) {
  return static_cast<uint8_t>(absl::ascii_isdigit(c) ? c - '0' : c - 'a' + 10);
}

// False for what is no id: not all digits, or all zero.
template <typename Id>
bool ReadId(absl::string_view digits, Id& id) {
  if (!IsHex(digits) || digits.find_first_not_of('0') == absl::string_view::npos) return false;
  for (size_t i = 0; i < id.size(); ++i) {
    id[i] = static_cast<uint8_t>(DigitOf(digits[2 * i]) << 4 | DigitOf(digits[2 * i + 1]));
  }
  return true;
}

template <typename Id>
std::string Hex(const Id& id) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(id.data()), id.size()));
}

std::mt19937_64& Random() {
  thread_local std::mt19937_64 random = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }();
  return random;
}

template <typename Id>
Id NewId() {
  Id id{};
  while (id == Id{}) {
    for (size_t i = 0; i < id.size(); i += 8) {
      const uint64_t bits = Random()();
      for (size_t k = 0; k < 8; ++k) id[i + k] = static_cast<uint8_t>(bits >> (8 * k));
    }
  }
  return id;
}

}  // namespace

std::optional<Context> ParseTraceparent(absl::string_view text) {
  if (text.size() < kLength || text.size() > kMaxTraceparentBytes) return std::nullopt;
  const absl::string_view version = text.substr(0, 2);
  const absl::string_view flags = text.substr(kFlags, 2);
  if (text[2] != '-' || text[kSpanId - 1] != '-' || text[kFlags - 1] != '-') return std::nullopt;
  if (!IsHex(version) || version == "ff" || !IsHex(flags)) return std::nullopt;
  if (text.size() > kLength && (version == "00" || text[kLength] != '-')) return std::nullopt;
  Context context;
  if (!ReadId(text.substr(kTraceId, 32), context.trace_id) ||
      !ReadId(text.substr(kSpanId, 16), context.span_id)) {
    return std::nullopt;
  }
  context.sampled = DigitOf(flags[1]) % 2 == 1;
  return context;
}

std::string ToTraceparent(const Context& context) {
  return absl::StrCat("00-", ToHex(context.trace_id), "-", ToHex(context.span_id),
                      context.sampled ? "-01" : "-00");
}

std::string ToHex(const TraceId& id) { return Hex(id); }
std::string ToHex(const SpanId& id) { return Hex(id); }

TraceId NewTraceId() { return NewId<TraceId>(); }
SpanId NewSpanId() { return NewId<SpanId>(); }

bool Chance(double probability) {
  return probability > 0 && std::uniform_real_distribution<double>()(Random()) < probability;
}

}  // namespace strata::trace
