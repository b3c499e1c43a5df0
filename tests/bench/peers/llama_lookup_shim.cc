// A C interface to the three n-gram caches of llama.cpp's lookup decoding (common/ngram-cache.h of
// the source distribution), used as examples/lookup/lookup.cpp uses them. Compiled by prepare.py.

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "log.h"
#include "ngram-cache.h"

// What ngram-cache.cpp needs of the rest of llama.cpp.
int common_log_verbosity_thold = -1;
struct common_log* common_log_main() {
  return nullptr;
}
void common_log_add(struct common_log*, enum ggml_log_level, const char*, ...) {}
extern "C" {
int64_t ggml_time_ms(void) { return 0; }
void ggml_abort(const char* file, int line, const char* format, ...) {
  std::fprintf(stderr, "%s:%d: ", file, line);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::abort();
}
}

namespace {
struct Lookup {
  common_ngram_cache context, dynamic, static_cache;
  std::vector<llama_token> tokens;
};
}  // namespace

extern "C" {

Lookup* lookup_new() { return new Lookup; }
void lookup_delete(Lookup* lookup) { delete lookup; }

// Adds a document to the static cache (examples/lookup/lookup-create.cpp).
void lookup_add_static(Lookup* lookup, const int32_t* tokens, int32_t count) {
  std::vector<llama_token> document(tokens, tokens + count);
  common_ngram_cache_update(lookup->static_cache, LLAMA_NGRAM_STATIC, LLAMA_NGRAM_STATIC, document,
                            count, false);
}

void lookup_accept(Lookup* lookup, const int32_t* tokens, int32_t count) {
  lookup->tokens.insert(lookup->tokens.end(), tokens, tokens + count);
  common_ngram_cache_update(lookup->context, LLAMA_NGRAM_MIN, LLAMA_NGRAM_MAX, lookup->tokens,
                            count, false);
}

// Begins a sequence. What the one before had goes to the dynamic cache.
void lookup_start(Lookup* lookup, const int32_t* tokens, int32_t count) {
  common_ngram_cache_merge(lookup->dynamic, lookup->context);
  lookup->context.clear();
  lookup->tokens.clear();
  lookup_accept(lookup, tokens, count);
}

// Writes up to `most` drafted tokens to `out`; how many.
int32_t lookup_draft(Lookup* lookup, int32_t most, int32_t* out) {
  std::vector<llama_token> draft = {lookup->tokens.back()};
  common_ngram_cache_draft(lookup->tokens, draft, most, LLAMA_NGRAM_MIN, LLAMA_NGRAM_MAX,
                           lookup->context, lookup->dynamic, lookup->static_cache);
  for (size_t i = 1; i < draft.size(); ++i) out[i - 1] = draft[i];
  return static_cast<int32_t>(draft.size()) - 1;
}

}  // extern "C"
