#ifndef STRATA_SERVICES_DRAFT_CORPUS_DOCUMENT_READER_H_
#define STRATA_SERVICES_DRAFT_CORPUS_DOCUMENT_READER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "services/draft/corpus/input_list.h"

namespace strata::draft {

struct ReadOptions {
  // The member of a jsonl line that holds its text.
  std::string field = "text";
  // Count and leave out jsonl lines that are unfit, instead of failing.
  bool skip_invalid_lines = false;
  // A longer document is handed over in pieces, cut behind a line feed if there is one.
  size_t max_piece_bytes = 1 << 20;
  // A longer jsonl line is unfit.
  size_t max_line_bytes = 256 << 20;
};

struct ReadCounts {
  uint64_t skipped_binary_files = 0;
  uint64_t skipped_lines = 0;
};

// Receives each document; `continues` if the text goes on from the piece before. The
// text is never empty, and not necessarily valid UTF-8.
using DocumentSink = absl::FunctionRef<absl::Status(std::string text, bool continues)>;

// Reads one file. By its name, less .gz, .xz or .zst: .jsonl and .ndjson hold a document a
// line, each a JSON object; anything else is text, one document. Text with a NUL byte in
// its first 8 KiB is binary: left out, or INVALID_ARGUMENT if the file was named.
// `file_bytes` is called now and then with the bytes of the file that were read.
// INVALID_ARGUMENT names file, line and fault of an unfit line; DATA_LOSS damaged
// compressed data; else the sink's first error.
absl::Status ReadDocuments(const InputFile& file, const ReadOptions& options, DocumentSink sink,
                           absl::FunctionRef<void(uint64_t)> file_bytes, ReadCounts& counts);

}  // namespace strata::draft

#endif  // STRATA_SERVICES_DRAFT_CORPUS_DOCUMENT_READER_H_
