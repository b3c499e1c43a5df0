#define PCRE2_CODE_UNIT_WIDTH 8
#include "common/tokenizer/regex.h"

#include <pcre2.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/tokenizer/strings.h"
#include "common/tokenizer/unicode_additions.h"
#include "common/tokenizer/utf8.h"

namespace strata::tokenizer {
namespace {

// Unicode's White_Space, which is Oniguruma's \s. PCRE2's \s also has U+180E.
constexpr std::string_view kSpaceSet =
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"
    "\\x{205F}\\x{3000}";
// Oniguruma's \w. PCRE2's \w leaves out marks and connector punctuation but "_".
// The digits of Latin-1 are an oddity of Oniguruma's.
constexpr std::string_view kWordSet =
    "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}";

// Escaped letters that mean the same to Oniguruma and PCRE2.
constexpr std::string_view kSameEscapes = "nrtfaexAz";

// Class members for the characters of a general category (all that begin with
// `category`: "L" has "Lu" and so on) that PCRE2 does not know yet.
std::string Additions(std::string_view category) {
  std::string out;
  for (const CategoryRange& range : UnicodeAdditions()) {
    if (!std::string_view(range.category).starts_with(category)) continue;
    absl::StrAppendFormat(&out, "\\x{%X}-\\x{%X}", range.first, range.last);
  }
  return out;
}

std::string WordSet() {
  std::string out(kWordSet);
  for (const char* category : {"L", "M", "Nd", "Nl", "Pc"}) out += Additions(category);
  return out;
}

// Backtracking of nested groups needs a stack; simple repeats do not.
constexpr size_t kJitStackStart = 32 * 1024;
constexpr size_t kJitStackMax = 8 * 1024 * 1024;

// What one thread needs to run any pattern.
class MatchState {
 public:
  MatchState()
      : data_(pcre2_match_data_create(1, nullptr)),
        context_(pcre2_match_context_create(nullptr)),
        stack_(pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr)) {
    if (context_ != nullptr && stack_ != nullptr) {
      pcre2_jit_stack_assign(context_, nullptr, stack_);
    }
  }
  ~MatchState() {
    pcre2_jit_stack_free(stack_);
    pcre2_match_context_free(context_);
    pcre2_match_data_free(data_);
  }
  MatchState(const MatchState&) = delete;
  MatchState& operator=(const MatchState&) = delete;

  pcre2_match_data* data() { return data_; }
  pcre2_match_context* context() { return context_; }

 private:
  pcre2_match_data* data_;
  pcre2_match_context* context_;
  pcre2_jit_stack* stack_;
};

}  // namespace

absl::StatusOr<std::string> TranslateOniguruma(std::string_view pattern) {
  std::string out;
  int class_depth = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      const bool in_class = class_depth > 0;
      switch (escaped) {
        case 's':
          absl::StrAppend(&out, in_class ? "" : "[", ToAbsl(kSpaceSet), in_class ? "" : "]");
          break;
        case 'w':
          absl::StrAppend(&out, in_class ? "" : "[", WordSet(), in_class ? "" : "]");
          break;
        case 'S':
        case 'W':
          if (in_class) {
            return absl::UnimplementedError(absl::StrCat("\\", std::string(1, escaped),
                                                         " inside a character class of the regular"
                                                         " expression ",
                                                         ToAbsl(pattern)));
          }
          absl::StrAppend(&out, "[^", escaped == 'S' ? std::string(kSpaceSet) : WordSet(), "]");
          break;
        case 'd':
          absl::StrAppend(&out, in_class ? "" : "[", "\\p{Nd}", Additions("Nd"),
                          in_class ? "" : "]");
          break;
        case 'p':
        case 'P': {
          const size_t end = pattern.find('}', i);
          if (i + 1 >= pattern.size() || pattern[i + 1] != '{' || end == std::string_view::npos) {
            return absl::InvalidArgumentError(
                absl::StrCat("\\p without {name} in the regular expression ", ToAbsl(pattern)));
          }
          const std::string_view property = pattern.substr(i - 1, end + 2 - i);
          const std::string added = Additions(pattern.substr(i + 2, end - i - 2));
          i = end;
          if (added.empty() || (in_class && escaped == 'P')) {
            // \P inside a class cannot leave characters out; these few stay in.
            out.append(property);
          } else if (in_class) {
            absl::StrAppend(&out, ToAbsl(property), added);
          } else {
            absl::StrAppend(&out, escaped == 'P' ? "[^" : "[", "\\p", ToAbsl(property.substr(2)),
                            added, "]");
          }
          break;
        }
        default:
          // The others mean something else to PCRE2 (\h, \v, \b), or nothing to one of the two.
          if (absl::ascii_isalpha(static_cast<unsigned char>(escaped)) &&
              kSameEscapes.find(escaped) == std::string_view::npos) {
            return absl::UnimplementedError(absl::StrCat(
                "\\", std::string(1, escaped), " in the regular expression ", ToAbsl(pattern)));
          }
          out.push_back('\\');
          out.push_back(escaped);
      }
      continue;
    }
    if (class_depth > 0) {
      // Oniguruma nests and intersects classes; PCRE2 10.42 does not.
      const bool posix = c == '[' && i + 1 < pattern.size() && pattern[i + 1] == ':';
      if ((c == '[' && !posix) || pattern.substr(i, 2) == "&&") {
        return absl::UnimplementedError(absl::StrCat(
            "nested or intersected character class in the regular expression ", ToAbsl(pattern)));
      }
      if (posix) {
        const size_t end = pattern.find(":]", i);
        if (end == std::string_view::npos) {
          return absl::InvalidArgumentError(
              absl::StrCat("unterminated [: in the regular expression ", ToAbsl(pattern)));
        }
        out.append(pattern.substr(i, end + 2 - i));
        i = end + 1;
        continue;
      }
      if (c == ']') --class_depth;
      out.push_back(c);
      continue;
    }
    if (c == '[') {
      ++class_depth;
      out.push_back(c);
      // A ']' that comes first is a member, not the end.
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out.push_back(pattern[++i]);
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') {
        out.append("\\]");
        ++i;
      }
      continue;
    }
    if (c == '}' && i + 1 < pattern.size() && pattern[i + 1] == '+') {
      // x{2,3}+ is possessive in PCRE2 and a repeated repeat in Oniguruma; but
      // \p{L}+ is neither, so look at what the brace closes.
      const size_t open = pattern.rfind('{', i);
      const bool property =
          open != std::string_view::npos && open >= 2 && pattern[open - 2] == '\\' &&
          (pattern[open - 1] == 'p' || pattern[open - 1] == 'P' || pattern[open - 1] == 'x');
      if (!property) {
        return absl::UnimplementedError(
            absl::StrCat("{n,m}+ in the regular expression ", ToAbsl(pattern)));
      }
    }
    out.push_back(c);
  }
  return out;
}

void Regex::Deleter::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

absl::StatusOr<Regex> Regex::CompileRaw(const std::string& pattern, std::string_view shown,
                                        uint32_t options) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | options, &error, &offset, nullptr);
  if (code == nullptr) {
    PCRE2_UCHAR message[160] = {};
    pcre2_get_error_message(error, message, sizeof(message));
    return absl::InvalidArgumentError(absl::StrCat("regular expression ", ToAbsl(shown), ": ",
                                                   reinterpret_cast<const char*>(message),
                                                   " (near byte ", offset, ")"));
  }
  // Without a JIT (an odd platform) pcre2_match interprets: slower, same result.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return Regex(code);
}

absl::StatusOr<Regex> Regex::Compile(std::string_view pattern) {
  if (ValidUtf8Prefix(pattern) != pattern.size()) {
    return absl::InvalidArgumentError("a regular expression is not valid UTF-8");
  }
  auto translated = TranslateOniguruma(pattern);
  if (!translated.ok()) return translated.status();
  // ^ and $ stand for line ends in Oniguruma.
  return CompileRaw(*translated, pattern, PCRE2_UCP | PCRE2_MULTILINE);
}

absl::StatusOr<Regex> Regex::Literal(std::string_view text) {
  if (ValidUtf8Prefix(text) != text.size()) {
    return absl::InvalidArgumentError("a pattern is not valid UTF-8");
  }
  return CompileRaw(std::string(text), text, PCRE2_LITERAL);
}

void Regex::Split(std::string_view text, std::vector<Span>* spans) const {
  if (text.empty()) {
    spans->push_back({0, 0, false});
    return;
  }
  thread_local MatchState state;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t done = 0;  // spans cover [0, done)
  size_t from = 0;  // where the next search starts
  while (from <= text.size() && state.data() != nullptr) {
    int found = pcre2_match(code_.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                            state.data(), state.context());
    if (found < 0 && found != PCRE2_ERROR_NOMATCH) {
      // The JIT's stack is bounded; the interpreter keeps its own on the heap.
      found = pcre2_match(code_.get(), subject, text.size(), from,
                          PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, state.data(), state.context());
    }
    // No match, or PCRE2's limit of ten million steps: what is left is one non-match.
    if (found < 0) break;
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(state.data());
    const size_t begin = bounds[0];
    const size_t end = bounds[1];
    if (begin == end) {
      // Like Oniguruma's iterator: an empty match counts, unless it touches the
      // match ahead of it; the search goes on behind the next character.
      if (done == 0 || begin != done) {
        if (done != begin) spans->push_back({done, begin, false});
        spans->push_back({begin, begin, true});
        done = begin;
      }
      if (begin >= text.size()) break;
      from = begin + ScanUtf8(text, begin).length;
      continue;
    }
    if (done != begin) spans->push_back({done, begin, false});
    spans->push_back({begin, end, true});
    done = end;
    from = end;
  }
  if (done != text.size()) spans->push_back({done, text.size(), false});
}

}  // namespace strata::tokenizer
