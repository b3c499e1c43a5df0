#include <unistd.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "common/trace/context.h"
#include "services/client/call.h"
#include "services/client/commands.h"
#include "services/client/connection.h"
#include "services/client/exit_codes.h"
#include "services/client/prompts.h"
#include "services/client/report.h"
#include "services/client/request_flags.h"
#include "services/client/retry.h"

namespace strata::client {
namespace {

struct Flags {
  ConnectionFlags connection;
  RequestFlags request;
  std::optional<std::string> prompt;
  std::string prompt_file;
  std::vector<uint32_t> token_ids;
  bool chat = false;
  std::string system;
  bool no_speculation = false;
  std::optional<uint32_t> draft_nodes;
  std::string predicted_text;
  std::string predicted_file;
  std::optional<uint32_t> logprobs;
  std::string request_id;
  std::string traceparent;
  bool trace = false;
  int retries = 3;
  bool json = false;
  bool stats = false;
};

absl::StatusOr<std::string> PromptText(const Flags& flags) {
  if (!flags.prompt_file.empty()) return ReadText(flags.prompt_file);
  if (flags.prompt && *flags.prompt != "-") return *flags.prompt;
  if (!flags.prompt && isatty(STDIN_FILENO) != 0) {
    return absl::InvalidArgumentError(
        "no prompt: give PROMPT, --prompt-file FILE, or - and text on standard input");
  }
  return ReadText("-");
}

absl::StatusOr<v1::GenerateRequest> BuildRequest(const Flags& flags) {
  v1::GenerateRequest request;
  FillRequest(flags.request, request);
  if (!flags.token_ids.empty()) {
    for (const uint32_t id : flags.token_ids) request.mutable_tokens()->add_ids(id);
  } else {
    auto text = PromptText(flags);
    if (!text.ok()) return text.status();
    if (auto status = CheckUtf8("the prompt", *text); !status.ok()) return status;
    if (flags.chat || !flags.system.empty()) {
      SetChat(flags.system, *text, *request.mutable_chat());
    } else {
      request.set_text(*std::move(text));
    }
  }
  v1::SpeculationParameters& speculation = *request.mutable_speculation();
  speculation.set_disabled(flags.no_speculation);
  if (flags.draft_nodes) speculation.set_max_nodes(*flags.draft_nodes);
  speculation.set_predicted_text(flags.predicted_text);
  if (!flags.predicted_file.empty()) {
    auto text = ReadText(flags.predicted_file);
    if (!text.ok()) return text.status();
    speculation.set_predicted_text(*std::move(text));
  }
  request.set_request_id(flags.request_id);
  const std::pair<const char*, const std::string&> texts[] = {
      {"--system", flags.system},
      {"the predicted text", speculation.predicted_text()},
      {"--request-id", request.request_id()},
      {"--tenant", request.tenant()}};
  for (const auto& [what, text] : texts) {
    if (auto status = CheckUtf8(what, text); !status.ok()) return status;
  }
  for (const std::string& stop : request.stop()) {
    if (auto status = CheckUtf8("--stop", stop); !status.ok()) return status;
  }
  request.set_logprobs(flags.logprobs.has_value());
  request.set_top_logprobs(flags.logprobs.value_or(0));
  return request;
}

// Models may say anything, escape sequences too: a terminal gets no control characters (C0, DEL,
// and C1, which is U+0080 to U+009F) but tab and newline. Files and pipes get every byte. `text` is
// whole characters.
void WriteText(const std::string& text, bool terminal) {
  if (!terminal) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    return;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool c1 =
        byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) <= 0x9F;
    if (c1) ++i;
    if (c1 || (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F) {
      std::fputs("\xEF\xBF\xBD", stdout);
    } else {
      std::fputc(byte, stdout);
    }
  }
}

// What to send; empty for nothing. The service ignores what is malformed, so it is told here.
absl::StatusOr<std::string> Traceparent(const Flags& flags) {
  if (!flags.traceparent.empty()) {
    if (trace::ParseTraceparent(flags.traceparent).has_value()) return flags.traceparent;
    return absl::InvalidArgumentError(
        "--traceparent is not one of W3C Trace Context (00-<32 hexadecimal digits>-<16>-<2>, lower "
        "case)");
  }
  if (!flags.trace) return "";
  const std::string made =
      trace::ToTraceparent({trace::NewTraceId(), trace::NewSpanId(), /*sampled=*/true});
  std::fprintf(stderr, "traceparent: %s\n", made.c_str());
  return made;
}

int Run(const Flags& flags, Interrupt& interrupt) {
  const auto request = BuildRequest(flags);
  if (!request.ok()) return ReportError(request.status(), interrupt, kUsage);
  const auto traceparent = Traceparent(flags);
  if (!traceparent.ok()) return ReportError(traceparent.status(), interrupt, kUsage);
  const auto stub = Connect(flags.connection);
  if (!stub.ok()) return ReportError(stub.status(), interrupt, kUsage);

  const bool terminal = isatty(STDOUT_FILENO) != 0;
  bool broken = false;
  const auto on_message = [&](const v1::GenerateResponse& message) {
    if (flags.json) return true;
    WriteText(message.text(), terminal);
    broken = std::fflush(stdout) != 0;
    return !broken;
  };
  const RetryOptions options = {.retries = flags.retries,
                                .timeout_s = flags.connection.timeout_s,
                                .traceparent = *traceparent};
  const auto answer = GenerateWithRetries(**stub, *request, options, interrupt, on_message);
  if (broken) {
    std::fprintf(stderr, "strata: cannot write to standard output\n");
    return kUsage;
  }
  if (!answer.ok()) {
    // The text so far ends without a newline.
    if (terminal && !flags.json) std::fputc('\n', stdout);
    return ReportError(answer.status(), interrupt, kServiceError);
  }
  if (flags.json) {
    std::printf("%s\n", Dump(ToJson(*answer)).c_str());
  } else if (answer->text.empty() || answer->text.back() != '\n') {
    std::printf("\n");
  }
  if (flags.stats) std::fputs(ToTable(answer->statistics).c_str(), stderr);
  if (std::fflush(stdout) != 0) {
    std::fprintf(stderr, "strata: cannot write to standard output\n");
    return kUsage;
  }
  return kSuccess;
}

}  // namespace

Command AddGenerateCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("generate", "Continues a prompt or answers a message");
  const auto flags = std::make_shared<Flags>();
  CLI::Option* prompt =
      command->add_option("PROMPT", flags->prompt, "The prompt; - or none: standard input");
  CLI::Option* file =
      command->add_option("--prompt-file", flags->prompt_file, "Read the prompt from this file")
          ->excludes(prompt);
  CLI::Option* ids =
      command->add_option("--token-ids", flags->token_ids, "The prompt as ids: 1,2,3")
          ->delimiter(',')
          ->allow_extra_args(false)
          ->excludes(prompt)
          ->excludes(file);
  command->add_flag("--chat", flags->chat, "The prompt is a user's message")->excludes(ids);
  command->add_option("--system", flags->system, "System message; implies --chat")->excludes(ids);
  AddRequestFlags(*command, flags->request);
  command->add_flag("--no-speculation", flags->no_speculation,
                    "One token a step; the tokens are the same");
  command->add_option("--draft-nodes", flags->draft_nodes,
                      "Most draft nodes a step; unset: the service's default");
  CLI::Option* predicted = command->add_option("--predicted-text", flags->predicted_text,
                                               "Text expected in the answer, to draft from");
  command->add_option("--predicted-file", flags->predicted_file, "The same, from a file")
      ->excludes(predicted);
  command->add_option("--logprobs", flags->logprobs,
                      "Report log-probabilities (with --json), and of N alternatives");
  command->add_option("--request-id", flags->request_id, "For the service's logs");
  CLI::Option* traceparent = command->add_option(
      "--traceparent", flags->traceparent,
      "W3C trace context of the span that this call is a part of; the service traces the call if "
      "its flags say sampled");
  command
      ->add_flag("--trace", flags->trace,
                 "Have the call traced: send a new traceparent, and print it to standard error")
      ->excludes(traceparent);
  command
      ->add_option(
          "--retries", flags->retries,
          "Ask again this often where a service went away, and go on from where the answer "
          "broke off; 0: never")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str();
  command->add_flag("--json", flags->json, "Print one JSON object when done");
  command->add_flag("--stats", flags->stats, "Print figures to standard error");
  AddConnectionFlags(*command, flags->connection);
  return {command, [flags](Interrupt& interrupt) { return Run(*flags, interrupt); }};
}

}  // namespace strata::client
