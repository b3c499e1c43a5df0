#include "common/log/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/log/json_formatter.h"

namespace strata::log {
namespace {

std::atomic<Format> current_format = Format::kText;

struct ToText {
  std::string operator()(std::string_view value) const {
    const std::string escaped = absl::CHexEscape(absl::string_view(value.data(), value.size()));
    const bool plain =
        !escaped.empty() && escaped == value && escaped.find_first_of(" =") == std::string::npos;
    return plain ? escaped : absl::StrCat("\"", escaped, "\"");
  }
  std::string operator()(int64_t value) const { return absl::StrCat(value); }
  std::string operator()(double value) const { return absl::StrCat(value); }
};

}  // namespace

void SetUp(const std::string& service, spdlog::level::level_enum level, Format format) {
  std::shared_ptr<spdlog::logger> logger;
  if (format == Format::kJson) {
    // Without colours.
    logger = std::make_shared<spdlog::logger>(service,
                                              std::make_shared<spdlog::sinks::stderr_sink_mt>());
    logger->set_formatter(std::make_unique<JsonFormatter>());
  } else {
    logger = std::make_shared<spdlog::logger>(
        service, std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  }
  logger->set_level(level);
  current_format = format;
  spdlog::set_default_logger(std::move(logger));
}

void Event(spdlog::level::level_enum level, std::string_view message,
           std::span<const Field> fields) {
  if (!spdlog::should_log(level)) return;
  if (current_format == Format::kJson) {
    const FieldScope scope(fields);
    spdlog::log(level, "{}", message);
    return;
  }
  std::string text(message);
  for (const Field& field : fields) {
    absl::StrAppend(&text, " ", absl::string_view(field.key.data(), field.key.size()), "=",
                    std::visit(ToText(), field.value));
  }
  spdlog::log(level, "{}", text);
}

}  // namespace strata::log
