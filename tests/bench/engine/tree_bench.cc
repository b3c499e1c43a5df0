// Times decoding with draft trees of recorded shapes, of which as much is accepted as was recorded,
// and plain decoding of as many tokens: what drafts that good would gain with a model whose own
// answers are not at hand, such as one of random weights. One JSON object a line for each file and
// batch.
//
//   strata-replay … --budget 32 --trees trees.json
//   tree_bench [--device cpu|cuda|cuda:N] [--batch B]… [--rows N] [--threads T] MODEL_DIR
//   trees.json…
//
// Tokens are arbitrary. A step is a forward pass, the draw of a token at each accepted row
// (greedy), and the commit; prompts are cached beforehand and not timed, nor is drafting.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "services/verify/engine/engine.h"
#include "services/verify/engine/json.h"
#include "services/verify/engine/sampling.h"

namespace {

using namespace strata::engine;

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "tree_bench: %s\n", message.c_str());
  std::exit(1);
}
void Check(const Status& status) {
  if (!status.ok()) Fail(status.message());
}

// Rows of a step's forward pass: row 0 is the last token, row 1 + i is node i.
struct Step {
  std::vector<int32_t> parents;
  std::vector<int32_t> path;  // row 0, then the accepted nodes' rows
};
struct Answer {
  int64_t prompt_tokens = 0;
  std::vector<Step> steps;
};

std::vector<int32_t> Numbers(const Json& list, int32_t add) {
  std::vector<int32_t> numbers;
  for (const Json& item : list.items()) {
    const auto number = item.AsInt();
    if (!number.has_value()) Fail("a tree holds something other than a number");
    numbers.push_back(static_cast<int32_t>(*number) + add);
  }
  return numbers;
}

std::vector<Answer> ReadAnswers(const std::string& path, size_t limit) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto json = Json::Parse(text);
  if (!json.ok()) Fail(path + ": " + json.status().message());
  const Json* rows = json->Find("rows");
  if (rows == nullptr) Fail(path + ": no \"rows\"");
  std::vector<Answer> answers;
  for (const Json& row : rows->items()) {
    if (answers.size() == limit) break;
    Answer& answer = answers.emplace_back();
    const Json* prompt = row.Find("prompt_tokens");
    const Json* steps = row.Find("steps");
    if (prompt == nullptr || !prompt->AsInt() || steps == nullptr) {
      Fail(path + ": a row lacks \"prompt_tokens\" or \"steps\"");
    }
    answer.prompt_tokens = *prompt->AsInt();
    for (const Json& step : steps->items()) {
      if (step.items().size() != 2) Fail(path + ": a step is no pair");
      answer.steps.push_back({Numbers(step.items()[0], 1), Numbers(step.items()[1], 1)});
      auto& [parents, accepted] = answer.steps.back();
      parents.insert(parents.begin(), -1);
      accepted.insert(accepted.begin(), 0);
    }
  }
  if (answers.empty()) Fail(path + ": no rows");
  return answers;
}

// The same number of tokens, one a step.
std::vector<Answer> Plain(const std::vector<Answer>& answers) {
  std::vector<Answer> plain;
  for (const Answer& answer : answers) {
    size_t tokens = 0;
    for (const Step& step : answer.steps) tokens += step.path.size();
    plain.push_back({answer.prompt_tokens, std::vector<Step>(tokens, Step{{-1}, {0}})});
  }
  return plain;
}

struct Figures {
  double seconds = 0;
  int64_t steps = 0;  // of the batch
  int64_t rows = 0;
  int64_t tokens = 0;
};

class Player {
 public:
  explicit Player(Engine& engine)
      : engine_(engine), vocab_(engine.info().vocab_size), output_(engine.host_memory()) {}

  Figures Play(const std::vector<Answer>& answers, size_t batch) {
    Figures figures;
    std::vector<Live> live;
    size_t next = 0;
    while (true) {
      std::erase_if(live, [](const Live& one) { return one.at == one.answer->steps.size(); });
      while (live.size() < batch && next < answers.size()) live.push_back(Begin(answers[next++]));
      if (live.empty()) return figures;
      Advance(live, figures);
    }
  }

 private:
  struct Live {
    const Answer* answer = nullptr;
    std::unique_ptr<KvSequence> sequence;
    size_t at = 0;
  };

  std::vector<int32_t> Tokens(size_t count) {
    std::vector<int32_t> tokens(count);
    for (int32_t& token : tokens) token = static_cast<int32_t>(++token_ * 7919 % vocab_);
    return tokens;
  }

  Live Begin(const Answer& answer) {
    Live live = {&answer, engine_.NewSequence()};
    const std::vector<int32_t> prompt = Tokens(answer.prompt_tokens);
    std::vector<int32_t> all(prompt.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
    const SequenceInput input{live.sequence.get(), prompt, {}, {}};
    Check(engine_.Forward({&input, 1}, output_));
    Check(engine_.Commit(*live.sequence, all));
    return live;
  }

  void Advance(std::vector<Live>& live, Figures& figures) {
    std::vector<std::vector<int32_t>> tokens, wanted;
    for (const Live& one : live) {
      tokens.push_back(Tokens(one.answer->steps[one.at].parents.size()));
      std::vector<int32_t>& rows = wanted.emplace_back(tokens.back().size());
      for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
    }
    const double start = Seconds();
    std::vector<SequenceInput> inputs;
    for (size_t i = 0; i < live.size(); ++i) {
      const Step& step = live[i].answer->steps[live[i].at];
      inputs.push_back({live[i].sequence.get(), tokens[i], step.parents, wanted[i]});
    }
    Check(engine_.Forward(inputs, output_));
    int64_t first = 0;
    for (size_t i = 0; i < live.size(); ++i) {
      const Step& step = live[i].answer->steps[live[i].at++];
      for (const int32_t row : step.path) {
        drawn_ += SampleToken(output_.row(first + row), {}, {}, 0, scratch_);
      }
      Check(engine_.Commit(*live[i].sequence, step.path));
      first += static_cast<int64_t>(tokens[i].size());
      figures.tokens += static_cast<int64_t>(step.path.size());
    }
    figures.seconds += Seconds() - start;
    figures.rows += first;
    ++figures.steps;
  }

  Engine& engine_;
  const int64_t vocab_;
  ForwardOutput output_;
  SamplerScratch scratch_;
  int64_t token_ = 0;
  int64_t drawn_ = 0;
};

void Print(const char* name, const Figures& figures) {
  std::printf(
      "\"%s\": {\"tokens_per_second\": %.1f, \"step_ms\": %.3f, \"rows_per_step\": %.1f, "
      "\"steps\": %lld, \"tokens\": %lld}, ",
      name, figures.tokens / figures.seconds, figures.seconds * 1e3 / figures.steps,
      static_cast<double>(figures.rows) / figures.steps, static_cast<long long>(figures.steps),
      static_cast<long long>(figures.tokens));
}

void Run(Engine& engine, const std::string& trees, size_t rows, size_t batch) {
  const std::vector<Answer> answers = ReadAnswers(trees, rows);
  const std::vector<Answer> plain = Plain(answers);
  // Graphs are captured, and memory is grown, before anything is timed.
  const std::vector<Answer> warm_up(answers.begin(),
                                    answers.begin() + std::min(answers.size(), batch));
  Player player(engine);
  player.Play(warm_up, batch);
  player.Play(Plain(warm_up), batch);
  const Figures drafted = player.Play(answers, batch);
  const Figures undrafted = player.Play(plain, batch);
  std::printf("{\"trees\": \"%s\", \"batch\": %zu, \"exact\": %s, ", trees.c_str(), batch,
              engine.info().exact ? "true" : "false");
  Print("drafted", drafted);
  Print("plain", undrafted);
  std::printf("\"ratio\": %.3f}\n",
              (drafted.tokens / drafted.seconds) / (undrafted.tokens / undrafted.seconds));
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  EngineOptions options;
  std::vector<std::string> args;
  std::vector<size_t> batches;
  size_t rows = SIZE_MAX;
  bool usable = true;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (!arg.starts_with("--")) {
      args.push_back(arg);
      continue;
    }
    const std::string value = i + 1 < argc ? argv[++i] : "";
    usable = usable && !value.empty();
    if (arg == "--device") {
      options.device = value;
    } else if (arg == "--batch") {
      batches.push_back(std::strtoul(value.c_str(), nullptr, 10));
    } else if (arg == "--rows") {
      rows = std::strtoul(value.c_str(), nullptr, 10);
    } else if (arg == "--threads") {
      options.threads = std::atoi(value.c_str());
    } else {
      usable = false;
    }
  }
  if (batches.empty()) batches.push_back(1);
  const size_t largest = *std::max_element(batches.begin(), batches.end());
  if (!usable || args.size() < 2 || largest == 0) {
    std::fprintf(stderr,
                 "usage: tree_bench [--device cpu|cuda|cuda:N] [--batch B]... [--rows N] "
                 "[--threads T] MODEL_DIR TREES...\n");
    return 2;
  }
  options.model_dir = args[0];
  options.kv_tokens = static_cast<int64_t>(largest) * 2048;
  auto engine = Engine::Load(options);
  Check(engine.status());
  for (size_t i = 1; i < args.size(); ++i) {
    for (const size_t batch : batches) Run(**engine, args[i], rows, batch);
  }
  return 0;
}
