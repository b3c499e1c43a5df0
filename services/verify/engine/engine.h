#ifndef STRATA_SERVICES_VERIFY_ENGINE_ENGINE_H_
#define STRATA_SERVICES_VERIFY_ENGINE_ENGINE_H_

#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <string>
#include <vector>

#include "services/verify/engine/host_memory.h"
#include "services/verify/engine/ranking.h"
#include "services/verify/engine/status.h"
#include "services/verify/engine/work_seconds.h"

// The model and its KV cache. This header is free of LibTorch, so that files
// which include protobuf may include it.
namespace strata::engine {

enum class DType { kBf16, kFp32 };
const char* DTypeName(DType dtype);

struct EngineOptions {
  // A Hugging Face folder: config.json, *.safetensors.
  std::string model_dir;
  DType dtype = DType::kBf16;
  // Linear layers in 8 bits a weight (QuantizedMatrix): faster, another model's tokens, and as
  // exact relative to itself.
  bool int8_weights = false;
  // "cpu", or in a build with CUDA also "cuda" or "cuda:N".
  std::string device = "cpu";
  // On CUDA: replay steps as CUDA graphs. The same bits either way; off, to look for faults.
  bool cuda_graphs = true;
  // Threads of LibTorch and of RunTogether, for passes on the CPU and for ParallelFor; 0 takes one
  // a core, and where a GPU computes the passes, four at most: idle ones of LibTorch spin for a
  // while.
  int threads = 0;
  // Room in the KV cache, in tokens over all sequences; rounded up to whole pages.
  int64_t kv_tokens = 16384;
  // Longest sequence; 0 takes the model's max_position_embeddings (at most kv_tokens).
  int64_t max_sequence_length = 0;
  // Run the row-invariance check at load (a second or so).
  bool self_check = true;
};

struct EngineInfo {
  std::string architecture;  // "LlamaForCausalLM", ...
  int64_t vocab_size = 0;
  int64_t max_sequence_length = 0;
  DType dtype = DType::kBf16;
  bool int8_weights = false;
  std::string device;
  int kv_page_tokens = 0;
  int64_t kv_pages_total = 0;
  // From generation_config.json and config.json.
  std::vector<int32_t> eos_token_ids;
  // Whether a row's logits depend on nothing but its own path: see DESIGN, "Lossless means
  // identical". False also if the self-check was not run.
  bool exact = false;
  std::vector<std::string> exactness_notes;
};

// The cached keys and values of one sequence: a length in tokens and the pages
// that hold them. Created by Engine::NewSequence; gives its pages back when
// destroyed, which must happen before the engine is destroyed and not while
// Forward runs.
class KvSequence {
 public:
  virtual ~KvSequence() = default;
  // Committed tokens.
  virtual int64_t length() const = 0;
};

// A hold on one full page of keys and values that a sequence has committed. Nobody writes to it any
// more; it stays, whatever becomes of that sequence, until the handle is destroyed, and longer
// while a sequence uses it. On the engine's thread, and destroyed before the engine.
class KvPage {
 public:
  virtual ~KvPage() = default;
  // Whether a sequence uses it. If not, it is free as soon as nobody holds on to it.
  virtual bool in_use() const = 0;
};

// The new tokens of one sequence in a forward pass. All spans are borrowed.
struct SequenceInput {
  KvSequence* sequence = nullptr;
  // Row r holds tokens[r].
  std::span<const int32_t> tokens;
  // parents[r] < r is the row that row r follows, -1 the last committed token.
  // Empty: a chain (row r follows row r - 1). Row r sits at position length() +
  // its depth, and attends to the committed tokens, its ancestors and itself.
  std::span<const int32_t> parents;
  // Rows whose logits are wanted, ascending.
  std::span<const int32_t> logit_rows;
};

// Logits of the rows asked for: in the order of the inputs, then of logit_rows.
struct ForwardOutput {
  ForwardOutput() = default;
  // What Engine::host_memory() says, so that a device writes to it without a detour.
  explicit ForwardOutput(std::pmr::memory_resource* memory)
      : logits(HostAllocator<float>(memory)), block_max(HostAllocator<float>(memory)) {}

  int64_t vocab_size = 0;
  HostVector<float> logits;  // [rows, vocab_size], row-major
  // [rows, LogitBlocks(vocab_size)]: the greatest logit of each block, exactly, for TopTokens
  // (ranking.h).
  HostVector<float> block_max;
  std::span<const float> rows(int64_t first, int64_t count) const {
    return {logits.data() + first * vocab_size, static_cast<size_t>(count * vocab_size)};
  }
  std::span<const float> rows_block_max(int64_t first, int64_t count) const {
    const int64_t blocks = LogitBlocks(vocab_size);
    return {block_max.data() + first * blocks, static_cast<size_t>(count * blocks)};
  }
  std::span<const float> row(int64_t r) const { return rows(r, 1); }
  std::span<const float> row_block_max(int64_t r) const { return rows_block_max(r, 1); }
};

// One thread at a time, except info(), work_seconds() and the counters kv_pages_...(); best one
// thread alone for all passes (own_thread.h says why).
class Engine {
 public:
  // NOT_FOUND for missing files; INVALID_ARGUMENT for damaged or ill-shaped ones;
  // UNIMPLEMENTED for an unknown architecture, feature or device; FAILED_PRECONDITION for a device
  // that is not there. Messages name the file or the device.
  static Result<std::unique_ptr<Engine>> Load(const EngineOptions& options);
  virtual ~Engine() = default;

  virtual const EngineInfo& info() const = 0;
  // For a ForwardOutput that is used again and again: memory that the device writes to fastest
  // (pinned, for a GPU). Outlives the engine. Others do too, but slower.
  virtual std::pmr::memory_resource* host_memory() const { return std::pmr::new_delete_resource(); }
  // Pages that nobody holds.
  virtual int64_t kv_pages_free() const = 0;
  // Pages that KvPage handles alone hold: free as soon as those are destroyed.
  virtual int64_t kv_pages_kept() const = 0;
  // Where the threads' time has gone in passes that they compute together: those with bf16 weights
  // on a CPU, but where oneDNN multiplies them (AMD's AVX512-BF16). Others are not counted.
  virtual WorkSeconds work_seconds() const { return {}; }

  std::unique_ptr<KvSequence> NewSequence() { return NewSequence({}); }
  // A sequence whose first tokens are committed already: those of `prefix`, which it shares. Page i
  // must come from SharePage(_, i) of a sequence that began with the same tokens as the pages
  // before it. Where info().exact holds, every later row has the bits that it would have had if
  // this sequence had computed them itself.
  virtual std::unique_ptr<KvSequence> NewSequence(std::span<const KvPage* const> prefix) = 0;
  // Page `index` of a sequence (its tokens from index * kv_page_tokens on); null if they are not
  // all committed.
  virtual std::unique_ptr<KvPage> SharePage(const KvSequence& sequence, int64_t index) = 0;

  // Computes all rows and stores their keys and values behind the committed
  // tokens, uncommitted. A sequence may stand in `inputs` once. On an error
  // (RESOURCE_EXHAUSTED: not enough free pages; INVALID_ARGUMENT: a token,
  // parent, row or length out of range) nothing has changed; after an INTERNAL one (a library
  // threw) or lack of memory, no row is left to commit.
  virtual Status Forward(std::span<const SequenceInput> inputs, ForwardOutput& output) = 0;

  // Makes `rows` of the sequence's last Forward, a path from a child of the last
  // committed token downwards, its next committed tokens, and drops the others.
  // Commits nothing if `rows` is empty. Unused pages are freed. INVALID_ARGUMENT if `rows` is no
  // such path; INTERNAL if the device failed: the sequence is then of no more use.
  virtual Status Commit(KvSequence& sequence, std::span<const int32_t> rows) = 0;
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_ENGINE_H_
