#include "services/verify/engine/json.h"

#include <charconv>
#include <cmath>
#include <utility>

namespace strata::engine {
namespace {

constexpr int kMaxDepth = 64;

void AppendUtf8(uint32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

}  // namespace

class JsonParser {
 public:
  explicit JsonParser(std::string_view text) : text_(text) {}

  Result<Json> Run() {
    Json value;
    if (!Value(value, 0)) return Failure();
    Space();
    if (at_ != text_.size()) {
      Fail("text after the end of the value");
      return Failure();
    }
    return value;
  }

 private:
  Status Failure() const {
    return Status(ErrorCode::kInvalidArgument,
                  "JSON: " + error_ + " at byte " + std::to_string(at_));
  }
  bool Fail(const char* why) {
    error_ = why;
    return false;
  }
  void Space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) {
      ++at_;
    }
  }
  bool Take(char c) {
    if (at_ < text_.size() && text_[at_] == c) {
      ++at_;
      return true;
    }
    return false;
  }
  bool Word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return Fail("unknown word");
    at_ += word.size();
    return true;
  }

  bool Value(Json& out, int depth) {
    if (depth > kMaxDepth) return Fail("nesting deeper than 64");
    Space();
    if (at_ >= text_.size()) return Fail("unexpected end");
    switch (text_[at_]) {
      case '{':
        return Object(out, depth);
      case '[':
        return Array(out, depth);
      case '"':
        out.kind_ = Json::Kind::kString;
        return String(out.string_);
      case 't':
        out.kind_ = Json::Kind::kBool;
        out.bool_ = true;
        return Word("true");
      case 'f':
        out.kind_ = Json::Kind::kBool;
        return Word("false");
      case 'n':
        return Word("null");
      default:
        return Number(out);
    }
  }

  bool Object(Json& out, int depth) {
    out.kind_ = Json::Kind::kObject;
    ++at_;
    Space();
    if (Take('}')) return true;
    while (true) {
      Space();
      std::string name;
      if (at_ >= text_.size() || text_[at_] != '"') return Fail("expected a member name");
      if (!String(name)) return false;
      Space();
      if (!Take(':')) return Fail("expected ':'");
      Json value;
      if (!Value(value, depth + 1)) return false;
      if (!out.members_.emplace(std::move(name), std::move(value)).second) {
        return Fail("repeated member name");
      }
      Space();
      if (Take('}')) return true;
      if (!Take(',')) return Fail("expected ',' or '}'");
    }
  }

  bool Array(Json& out, int depth) {
    out.kind_ = Json::Kind::kArray;
    ++at_;
    Space();
    if (Take(']')) return true;
    while (true) {
      Json value;
      if (!Value(value, depth + 1)) return false;
      out.items_.push_back(std::move(value));
      Space();
      if (Take(']')) return true;
      if (!Take(',')) return Fail("expected ',' or ']'");
    }
  }

  bool Hex4(uint32_t& out) {
    if (text_.size() - at_ < 4) return Fail("cut \\u escape");
    const char* begin = text_.data() + at_;
    auto [end, error] = std::from_chars(begin, begin + 4, out, 16);
    if (error != std::errc() || end != begin + 4) return Fail("bad \\u escape");
    at_ += 4;
    return true;
  }

  bool String(std::string& out) {
    ++at_;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '"') {
        ++at_;
        return true;
      }
      if (static_cast<unsigned char>(c) < 0x20) return Fail("control character in a string");
      ++at_;
      if (c != '\\') {
        out += c;
        continue;
      }
      if (at_ >= text_.size()) break;
      const char escape = text_[at_++];
      switch (escape) {
        case '"':
        case '\\':
        case '/':
          out += escape;
          break;
        case 'b':
          out += '\b';
          break;
        case 'f':
          out += '\f';
          break;
        case 'n':
          out += '\n';
          break;
        case 'r':
          out += '\r';
          break;
        case 't':
          out += '\t';
          break;
        case 'u': {
          uint32_t c1 = 0;
          if (!Hex4(c1)) return false;
          if (c1 >= 0xD800 && c1 < 0xDC00) {
            uint32_t c2 = 0;
            if (!Take('\\') || !Take('u') || !Hex4(c2) || c2 < 0xDC00 || c2 > 0xDFFF) {
              return Fail("lone surrogate");
            }
            c1 = 0x10000 + ((c1 - 0xD800) << 10) + (c2 - 0xDC00);
          } else if (c1 >= 0xDC00 && c1 <= 0xDFFF) {
            return Fail("lone surrogate");
          }
          AppendUtf8(c1, out);
          break;
        }
        default:
          return Fail("unknown escape");
      }
    }
    return Fail("string without an end");
  }

  bool Number(Json& out) {
    out.kind_ = Json::Kind::kNumber;
    const size_t begin = at_;
    auto digits = [this] {
      const size_t first = at_;
      while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
      return at_ > first;
    };
    Take('-');
    const size_t lead = at_;
    if (!digits()) return Fail("unexpected character");
    if (text_[lead] == '0' && at_ - lead > 1) return Fail("leading zero");
    if (Take('.') && !digits()) return Fail("digits missing after '.'");
    if (Take('e') || Take('E')) {
      if (!Take('+')) Take('-');
      if (!digits()) return Fail("digits missing in the exponent");
    }
    auto [end, error] = std::from_chars(text_.data() + begin, text_.data() + at_, out.number_);
    if (error != std::errc() || end != text_.data() + at_) return Fail("number out of range");
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
  std::string error_;
};

Result<Json> Json::Parse(std::string_view text) { return JsonParser(text).Run(); }

std::optional<bool> Json::AsBool() const {
  if (kind_ != Kind::kBool) return std::nullopt;
  return bool_;
}

std::optional<double> Json::AsNumber() const {
  if (kind_ != Kind::kNumber) return std::nullopt;
  return number_;
}

std::optional<int64_t> Json::AsInt() const {
  if (kind_ != Kind::kNumber || number_ != std::floor(number_) || std::abs(number_) > 9e15) {
    return std::nullopt;
  }
  return static_cast<int64_t>(number_);
}

std::optional<std::string> Json::AsString() const {
  if (kind_ != Kind::kString) return std::nullopt;
  return string_;
}

const Json* Json::Find(const std::string& name) const {
  auto it = members_.find(name);
  return it == members_.end() ? nullptr : &it->second;
}

}  // namespace strata::engine
