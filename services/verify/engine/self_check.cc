#include "services/verify/engine/self_check.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

namespace strata::engine {
namespace {

// Long enough to cross a page boundary in every way of running it.
constexpr int kTokens = 21;

std::vector<int32_t> Iota(int count) {
  std::vector<int32_t> rows(count);
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

// Feeds `tokens` in chunks of `chunk`; appends the logits of every row.
Status RunInChunks(Engine& engine, KvSequence& sequence, std::span<const int32_t> tokens, int chunk,
                   std::vector<float>& logits) {
  ForwardOutput output;
  for (size_t at = 0; at < tokens.size(); at += chunk) {
    const size_t count = std::min<size_t>(chunk, tokens.size() - at);
    const std::vector<int32_t> rows = Iota(static_cast<int>(count));
    const SequenceInput input{&sequence, tokens.subspan(at, count), {}, rows};
    if (Status status = engine.Forward({&input, 1}, output); !status.ok()) return status;
    logits.insert(logits.end(), output.logits.begin(), output.logits.end());
    if (Status status = engine.Commit(sequence, rows); !status.ok()) return status;
  }
  return Status();
}

// Prefills `prefix` tokens, then one tree: the rest of the path, each node with a
// wrong sibling before it; a second sequence runs beside it.
Status RunAsTree(Engine& engine, std::span<const int32_t> tokens, int prefix,
                 std::vector<float>& logits) {
  auto sequence = engine.NewSequence();
  auto other = engine.NewSequence();
  if (Status s = RunInChunks(engine, *sequence, tokens.first(prefix), prefix, logits); !s.ok()) {
    return s;
  }
  const int64_t vocab = engine.info().vocab_size;
  std::vector<int32_t> tree, parents, path;
  int32_t parent = -1;
  for (size_t i = prefix; i < tokens.size(); ++i) {
    if (parent >= 0) {
      tree.push_back(static_cast<int32_t>((tokens[i] + 1) % vocab));
      parents.push_back(parent);
    }
    tree.push_back(tokens[i]);
    parents.push_back(parent);
    parent = static_cast<int32_t>(tree.size()) - 1;
    path.push_back(parent);
  }
  const SequenceInput inputs[] = {{other.get(), tokens.subspan(3, 7), {}, {}},
                                  {sequence.get(), tree, parents, path}};
  ForwardOutput output;
  if (Status status = engine.Forward(inputs, output); !status.ok()) return status;
  logits.insert(logits.end(), output.logits.begin(), output.logits.end());
  // What Commit moves must serve the next step as if it had been written there.
  if (Status status = engine.Commit(*sequence, path); !status.ok()) return status;
  return RunInChunks(engine, *sequence, tokens.first(2), 1, logits);
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

std::vector<std::string> FindRowVariance(Engine& engine) {
  std::vector<std::string> faults;
  std::mt19937 random(20250209);
  std::uniform_int_distribution<int32_t> any(0, static_cast<int32_t>(engine.info().vocab_size - 1));
  std::vector<int32_t> tokens(kTokens);
  for (int32_t& token : tokens) token = any(random);

  // Two more tokens follow, as in RunAsTree.
  std::vector<int32_t> all = tokens;
  all.insert(all.end(), tokens.begin(), tokens.begin() + 2);
  auto run = [&](int chunk, std::vector<float>& logits) {
    auto sequence = engine.NewSequence();
    return RunInChunks(engine, *sequence, all, chunk, logits);
  };
  std::vector<float> expected;
  if (Status status = run(static_cast<int>(all.size()), expected); !status.ok()) {
    return {"self-check: " + status.message()};
  }
  for (int chunk : {1, 2, 5, 17}) {
    std::vector<float> logits;
    Status status = run(chunk, logits);
    if (!status.ok()) return {"self-check: " + status.message()};
    if (!SameBits(logits, expected)) {
      faults.push_back("logits of " + std::to_string(chunk) +
                       " rows a pass differ from those of one pass");
    }
  }
  for (int prefix : {3, 14}) {
    std::vector<float> logits;
    Status status = RunAsTree(engine, tokens, prefix, logits);
    if (!status.ok()) return {"self-check: " + status.message()};
    if (!SameBits(logits, expected)) {
      faults.push_back("logits of a draft tree after " + std::to_string(prefix) +
                       " tokens differ from those of one pass");
    }
  }
  return faults;
}

}  // namespace strata::engine
