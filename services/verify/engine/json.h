#ifndef STRATA_SERVICES_VERIFY_ENGINE_JSON_H_
#define STRATA_SERVICES_VERIFY_ENGINE_JSON_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "services/verify/engine/status.h"

namespace strata::engine {

// A JSON reader for config files and safetensors headers. The engine has one of
// its own because it must build where there is LibTorch and nothing else.
// Strict RFC 8259; nesting is limited to 64, input to the caller's bound.
class Json {
 public:
  enum class Kind { kNull, kBool, kNumber, kString, kArray, kObject };

  // INVALID_ARGUMENT names the byte offset of the fault.
  static Result<Json> Parse(std::string_view text);

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::kNull; }
  bool is_object() const { return kind_ == Kind::kObject; }
  bool is_array() const { return kind_ == Kind::kArray; }
  // Nullopt if the value is of another kind (AsInt: or not a whole number that a double holds).
  std::optional<bool> AsBool() const;
  std::optional<double> AsNumber() const;
  std::optional<int64_t> AsInt() const;
  std::optional<std::string> AsString() const;
  // Empty unless an array.
  const std::vector<Json>& items() const { return items_; }
  // Empty unless an object.
  const std::map<std::string, Json>& members() const { return members_; }
  // The member of that name, or nullptr.
  const Json* Find(const std::string& name) const;

 private:
  friend class JsonParser;
  Kind kind_ = Kind::kNull;
  bool bool_ = false;
  double number_ = 0;
  std::string string_;
  std::vector<Json> items_;
  std::map<std::string, Json> members_;
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_JSON_H_
