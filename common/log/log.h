#ifndef STRATA_COMMON_LOG_LOG_H_
#define STRATA_COMMON_LOG_LOG_H_

#include <spdlog/common.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace strata::log {

enum class Format : uint8_t { kText, kJson };

// Makes the default logger write to standard error. kJson: one JSON object a line, with the keys
// time (RFC 3339, UTC), level, service, message, and the fields of an event. Whatever is logged,
// control characters and invalid UTF-8 too, a line is valid JSON.
void SetUp(const std::string& service, spdlog::level::level_enum level, Format format);

struct Field {
  std::string_view key;
  std::variant<std::string_view, int64_t, double> value;
};

// Logs a message with fields, apart from each other in JSON, else as key=value behind the message.
// Keys are constants of the program; values may be any text, but never what a prompt or an answer
// says.
void Event(spdlog::level::level_enum level, std::string_view message,
           std::span<const Field> fields);

}  // namespace strata::log

#endif  // STRATA_COMMON_LOG_LOG_H_
