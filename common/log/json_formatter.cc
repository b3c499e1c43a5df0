#include "common/log/json_formatter.h"

#include <spdlog/details/log_msg.h>

#include <nlohmann/json.hpp>
#include <string>

#include "absl/time/time.h"

namespace strata::log {
namespace {

thread_local std::span<const Field> current_fields;

std::string_view ToView(spdlog::string_view_t text) { return {text.data(), text.size()}; }

}  // namespace

FieldScope::FieldScope(std::span<const Field> fields) { current_fields = fields; }
FieldScope::~FieldScope() { current_fields = {}; }

void JsonFormatter::format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) {
  nlohmann::ordered_json line;
  line["time"] =
      absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::FromChrono(message.time), absl::UTCTimeZone());
  line["level"] = ToView(spdlog::level::to_string_view(message.level));
  line["service"] = ToView(message.logger_name);
  line["message"] = ToView(message.payload);
  for (const Field& field : current_fields) {
    std::visit([&](const auto& value) { line[std::string(field.key)] = value; }, field.value);
  }
  // Invalid UTF-8 becomes U+FFFD.
  const std::string text = line.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false,
                                     nlohmann::ordered_json::error_handler_t::replace) +
                           '\n';
  out.append(text.data(), text.data() + text.size());
}

std::unique_ptr<spdlog::formatter> JsonFormatter::clone() const {
  return std::make_unique<JsonFormatter>();
}

}  // namespace strata::log
