#ifndef STRATA_COMMON_LOG_JSON_FORMATTER_H_
#define STRATA_COMMON_LOG_JSON_FORMATTER_H_

#include <spdlog/formatter.h>

#include <memory>
#include <span>

#include "common/log/log.h"

namespace strata::log {

// Writes what log.h says of Format::kJson. Thread-compatible.
class JsonFormatter final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override;
  std::unique_ptr<spdlog::formatter> clone() const override;
};

// The fields of what this thread logs while the object lives: spdlog has no place for them. A
// logger without a queue formats on the thread that logs.
class FieldScope {
 public:
  explicit FieldScope(std::span<const Field> fields);
  ~FieldScope();
  FieldScope(const FieldScope&) = delete;
  FieldScope& operator=(const FieldScope&) = delete;
};

}  // namespace strata::log

#endif  // STRATA_COMMON_LOG_JSON_FORMATTER_H_
