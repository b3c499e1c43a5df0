#include "services/verify/engine/engine.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <exception>
#include <new>
#include <utility>

#include "services/verify/engine/config.h"
#include "services/verify/engine/device.h"
#include "services/verify/engine/kv_pages.h"
#include "services/verify/engine/model.h"
#include "services/verify/engine/own_thread.h"
#include "services/verify/engine/ranking.h"
#include "services/verify/engine/self_check.h"

namespace strata::engine {
namespace {

// Activations of one pass stay within some hundred megabytes.
constexpr int64_t kMaxRows = 8192;
// LibTorch's threads where a GPU computes: they draw tokens, and spin for milliseconds after that.
constexpr int kHostThreadsOfDevice = 4;

Status Invalid(const std::string& why) { return Status(ErrorCode::kInvalidArgument, why); }

int64_t PagesFor(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

// LibTorch's errors without their backtraces.
std::string Explain(const std::exception& error) {
  const auto* torch = dynamic_cast<const c10::Error*>(&error);
  return torch == nullptr ? error.what() : torch->what_without_backtrace();
}

class Page final : public KvPage {
 public:
  Page(KvPages& kv_pages, int32_t page) : page(page), kv_pages_(kv_pages) { kv_pages_.Keep(page); }
  ~Page() override { kv_pages_.Drop(page); }
  bool in_use() const override { return kv_pages_.users(page) > 0; }

  const int32_t page;

 private:
  KvPages& kv_pages_;
};

// Writes only behind its committed tokens, so never to a page that is shared: those are full.
class Sequence final : public KvSequence {
 public:
  Sequence(KvPages& kv_pages, std::span<const KvPage* const> prefix) : kv_pages_(kv_pages) {
    pages.reserve(prefix.size());
    for (const KvPage* shared : prefix) {
      pages.push_back(static_cast<const Page&>(*shared).page);
      kv_pages_.Use(pages.back());
    }
    committed = static_cast<int64_t>(prefix.size()) * kPageTokens;
  }
  ~Sequence() override { kv_pages_.Release(pages); }
  int64_t length() const override { return committed; }

  // Where the token at `place` of the sequence's pages is.
  int32_t page_of(int64_t place) const { return pages[place / kPageTokens]; }
  static int32_t offset_of(int64_t place) { return static_cast<int32_t>(place % kPageTokens); }
  int32_t slot_of(int64_t place) const { return KvSlot(page_of(place), offset_of(place)); }

  // Gives back the pages that hold no committed token.
  void Trim() {
    const size_t keep = PagesFor(committed);
    if (pages.size() <= keep) return;
    kv_pages_.Release(std::span<const int32_t>(pages).subspan(keep));
    pages.resize(keep);
  }

  int64_t committed = 0;
  std::vector<int32_t> pages;
  // Parents of the last pass's rows, row r at slot committed + r; empty if there is
  // nothing to commit.
  std::vector<int32_t> parents;

 private:
  KvPages& kv_pages_;
};

class EngineImpl final : public Engine {
 public:
  static Result<std::unique_ptr<Engine>> Load(const EngineOptions& options) {
    auto device = ParseDevice(options.device);
    if (!device.ok()) return device.status();
    if (options.kv_tokens < kPageTokens) {
      return Invalid("kv_tokens must be at least " + std::to_string(kPageTokens) + ", not " +
                     std::to_string(options.kv_tokens));
    }
    if (options.threads < 0 || options.max_sequence_length < 0) {
      return Invalid("threads and max_sequence_length must not be negative");
    }
    if (options.threads > 0) {
      at::set_num_threads(options.threads);
    } else if (device->kind != Device::Kind::kCpu) {
      at::set_num_threads(std::min(at::get_num_threads(), kHostThreadsOfDevice));
    }
    auto config = LoadModelConfig(options.model_dir);
    if (!config.ok()) return config.status();

    auto engine = std::make_unique<EngineImpl>();
    const int64_t pages = PagesFor(options.kv_tokens);
    EngineInfo& info = engine->info_;
    info.architecture = config->architecture;
    info.vocab_size = config->vocab_size;
    info.max_sequence_length = std::min(config->max_positions, pages * kPageTokens);
    if (options.max_sequence_length > 0) {
      info.max_sequence_length = std::min(info.max_sequence_length, options.max_sequence_length);
    }
    info.dtype = options.dtype;
    info.int8_weights = options.int8_weights;
    info.device = options.device;
    info.kv_page_tokens = kPageTokens;
    info.kv_pages_total = pages;
    info.eos_token_ids = config->eos_token_ids;

    // Draft rows may sit past the longest sequence's end; the scheduler cuts them,
    // but a position must exist for each.
    ModelOptions model_options;
    model_options.model_dir = options.model_dir;
    model_options.device = *device;
    model_options.bf16 = options.dtype == DType::kBf16;
    model_options.int8_weights = options.int8_weights;
    model_options.cuda_graphs = options.cuda_graphs;
    model_options.max_positions = info.max_sequence_length;
    model_options.kv_pages = pages;
    auto model = Model::Load(model_options, *config);
    if (!model.ok()) return model.status();
    engine->model_ = std::move(*model);
    engine->kv_pages_ = std::make_unique<KvPages>(pages);

    if (options.self_check) {
      info.exactness_notes = engine->model_->EnsureRowInvariance();
      std::vector<std::string> faults = FindRowVariance(*engine);
      info.exact = faults.empty();
      for (std::string& fault : faults) info.exactness_notes.push_back(std::move(fault));
    } else {
      info.exactness_notes.emplace_back("the self-check was not run");
    }
    return std::unique_ptr<Engine>(std::move(engine));
  }

  const EngineInfo& info() const override { return info_; }
  std::pmr::memory_resource* host_memory() const override { return model_->host_memory(); }
  int64_t kv_pages_free() const override { return kv_pages_->free_pages(); }
  int64_t kv_pages_kept() const override { return kv_pages_->kept_pages(); }
  WorkSeconds work_seconds() const override { return model_->work_seconds(); }

  using Engine::NewSequence;
  std::unique_ptr<KvSequence> NewSequence(std::span<const KvPage* const> prefix) override {
    return std::make_unique<Sequence>(*kv_pages_, prefix);
  }

  std::unique_ptr<KvPage> SharePage(const KvSequence& kv_sequence, int64_t index) override {
    const auto& sequence = static_cast<const Sequence&>(kv_sequence);
    if (index < 0 || (index + 1) * kPageTokens > sequence.committed) return nullptr;
    return std::make_unique<Page>(*kv_pages_, sequence.pages[index]);
  }

  Status Forward(std::span<const SequenceInput> inputs, ForwardOutput& output) override {
    try {
      if (Status status = Check(inputs); !status.ok()) return status;
      if (Status status = TakePages(inputs); !status.ok()) return status;
      ForwardRows(inputs, output);
    } catch (const std::bad_alloc&) {
      Forget(inputs);
      return Status(ErrorCode::kResourceExhausted, "forward pass: out of memory");
    } catch (const std::exception& error) {
      Forget(inputs);
      return Status(ErrorCode::kInternal, "forward pass: " + Explain(error));
    }
    return Status();
  }

  Status Commit(KvSequence& kv_sequence, std::span<const int32_t> rows) override {
    auto& sequence = static_cast<Sequence&>(kv_sequence);
    int32_t last = -1;
    for (int32_t row : rows) {
      if (row <= last || row >= static_cast<int64_t>(sequence.parents.size()) ||
          sequence.parents[row] != last) {
        return Invalid("row " + std::to_string(row) + " does not follow row " +
                       std::to_string(last) + " in the last pass");
      }
      last = row;
    }
    // Rows ascend and rows[d] >= d, so a slot is read before it is written over.
    std::vector<KvMove> moves;
    for (size_t d = 0; d < rows.size(); ++d) {
      const int64_t from = sequence.committed + rows[d];
      const int64_t to = sequence.committed + static_cast<int64_t>(d);
      if (from != to) moves.push_back({sequence.slot_of(from), sequence.slot_of(to)});
    }
    if (Status status = model_->MoveTokens(moves); !status.ok()) return status;
    sequence.committed += static_cast<int64_t>(rows.size());
    sequence.parents.clear();
    sequence.Trim();
    return Status();
  }

 private:
  Status Check(std::span<const SequenceInput> inputs) const {
    int64_t rows = 0;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const SequenceInput& input = inputs[i];
      const std::string name = "input " + std::to_string(i) + ": ";
      if (input.sequence == nullptr) return Invalid(name + "no sequence");
      for (size_t j = 0; j < i; ++j) {
        if (inputs[j].sequence == input.sequence)
          return Invalid(name + "its sequence stands twice");
      }
      const int64_t count = static_cast<int64_t>(input.tokens.size());
      if (count == 0) return Invalid(name + "no tokens");
      rows += count;
      if (!input.parents.empty() && input.parents.size() != input.tokens.size()) {
        return Invalid(name + std::to_string(input.parents.size()) + " parents for " +
                       std::to_string(count) + " tokens");
      }
      std::vector<int64_t> depth(count);
      for (int64_t r = 0; r < count; ++r) {
        const int32_t token = input.tokens[r];
        if (token < 0 || token >= info_.vocab_size) {
          return Invalid(name + "token id " + std::to_string(token) + " is outside [0, " +
                         std::to_string(info_.vocab_size) + ")");
        }
        const int64_t parent = input.parents.empty() ? r - 1 : input.parents[r];
        if (parent < -1 || parent >= r) {
          return Invalid(name + "row " + std::to_string(r) + " has parent " +
                         std::to_string(parent));
        }
        depth[r] = parent < 0 ? 0 : depth[parent] + 1;
        if (input.sequence->length() + depth[r] >= info_.max_sequence_length) {
          return Invalid(name + "position " + std::to_string(input.sequence->length() + depth[r]) +
                         " is past the longest sequence, " +
                         std::to_string(info_.max_sequence_length) + " tokens");
        }
      }
      int32_t last = -1;
      for (int32_t row : input.logit_rows) {
        if (row <= last || row >= count) return Invalid(name + "logit_rows must ascend within it");
        last = row;
      }
    }
    if (rows > kMaxRows) {
      return Invalid(std::to_string(rows) + " rows in one pass, at most " +
                     std::to_string(kMaxRows) + " are allowed");
    }
    return Status();
  }

  void ForwardRows(std::span<const SequenceInput> inputs, ForwardOutput& output) {
    // The number of threads is a property of each thread that opens a parallel region, and
    // oneDNN's own regions do not look at LibTorch's.
    at::internal::lazy_init_num_threads();
    rows_.clear();
    attention_.clear();
    logit_rows_.clear();
    // Spans into scattered_ are taken while it grows: its room is set first.
    size_t scattered = 0;
    for (const SequenceInput& input : inputs) {
      if (!input.parents.empty()) scattered += input.tokens.size() * input.tokens.size();
    }
    scattered_.clear();
    scattered_.reserve(scattered);
    for (const SequenceInput& input : inputs) AddRows(input);

    output.vocab_size = info_.vocab_size;
    output.logits.resize(logit_rows_.size() * info_.vocab_size);
    output.block_max.resize(logit_rows_.size() * LogitBlocks(info_.vocab_size));
    c10::InferenceMode guard;
    model_->Forward(rows_, attention_, logit_rows_, output.logits.data(), output.block_max.data());
  }

  // After a pass that failed midway: no input has a row to commit or a page for one.
  static void Forget(std::span<const SequenceInput> inputs) {
    for (const SequenceInput& input : inputs) {
      if (input.sequence == nullptr) continue;
      auto& sequence = static_cast<Sequence&>(*input.sequence);
      sequence.parents.clear();
      sequence.Trim();
    }
  }

  // Makes room for all inputs or for none.
  Status TakePages(std::span<const SequenceInput> inputs) {
    auto missing = [](const SequenceInput& input) {
      const auto& sequence = static_cast<const Sequence&>(*input.sequence);
      const int64_t slots = sequence.committed + static_cast<int64_t>(input.tokens.size());
      return std::max<int64_t>(0, PagesFor(slots) - static_cast<int64_t>(sequence.pages.size()));
    };
    int64_t wanted = 0;
    for (const SequenceInput& input : inputs) wanted += missing(input);
    if (wanted > kv_pages_->free_pages()) {
      return Status(ErrorCode::kResourceExhausted,
                    "KV cache: " + std::to_string(wanted) + " pages wanted, " +
                        std::to_string(kv_pages_->free_pages()) + " of " +
                        std::to_string(kv_pages_->total_pages()) + " free");
    }
    for (const SequenceInput& input : inputs) {
      kv_pages_->Allocate(missing(input), static_cast<Sequence&>(*input.sequence).pages);
    }
    return Status();
  }

  void AddRows(const SequenceInput& input) {
    auto& sequence = static_cast<Sequence&>(*input.sequence);
    const int64_t base = static_cast<int64_t>(rows_.size());
    const int64_t count = static_cast<int64_t>(input.tokens.size());
    sequence.parents.assign(count, -1);
    std::vector<int64_t> depth(count);
    for (int64_t r = 0; r < count; ++r) {
      const int64_t parent = input.parents.empty() ? r - 1 : input.parents[r];
      sequence.parents[r] = static_cast<int32_t>(parent);
      depth[r] = parent < 0 ? 0 : depth[parent] + 1;
      const int64_t slot = sequence.committed + r;
      rows_.push_back({input.tokens[r], sequence.committed + depth[r], sequence.page_of(slot),
                       Sequence::offset_of(slot)});
      AttentionRow row;
      row.row = base + r;
      row.position = sequence.committed + depth[r];
      row.pages = sequence.pages;
      row.direct = sequence.committed + DirectAncestors(sequence.parents, depth, r);
      const int64_t tail = row.position + 1 - row.direct;
      if (tail > 0) {
        const size_t at = scattered_.size();
        scattered_.resize(at + tail);
        int64_t ancestor = r;
        for (int64_t i = tail - 1; i >= 0; --i) {
          const int64_t place = sequence.committed + ancestor;
          scattered_[at + i] = sequence.slot_of(place);
          ancestor = sequence.parents[ancestor];
        }
        row.scattered = std::span<const int32_t>(scattered_).subspan(at, tail);
      }
      attention_.push_back(row);
    }
    for (int32_t row : input.logit_rows) logit_rows_.push_back(static_cast<int32_t>(base + row));
  }

  // How many rows of row r's path, from its top, are stored at their own position
  // (row index equals depth).
  static int64_t DirectAncestors(const std::vector<int32_t>& parents,
                                 const std::vector<int64_t>& depth, int64_t r) {
    while (r >= 0 && depth[r] != r) r = parents[r];
    return r + 1;
  }

  EngineInfo info_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<KvPages> kv_pages_;
  // Reused from pass to pass.
  std::vector<ModelRow> rows_;
  std::vector<AttentionRow> attention_;
  std::vector<int32_t> logit_rows_;
  std::vector<int32_t> scattered_;
};

}  // namespace

const char* DTypeName(DType dtype) { return dtype == DType::kBf16 ? "bf16" : "fp32"; }

Result<std::unique_ptr<Engine>> Engine::Load(const EngineOptions& options) {
  try {
    Result<std::unique_ptr<Engine>> engine(Status(ErrorCode::kInternal, "not loaded"));
    RunOnOwnThread([&] {
      c10::InferenceMode guard;
      engine = EngineImpl::Load(options);
    });
    return engine;
  } catch (const std::exception& error) {
    return Status(ErrorCode::kInternal, options.model_dir + ": " + Explain(error));
  }
}

}  // namespace strata::engine
