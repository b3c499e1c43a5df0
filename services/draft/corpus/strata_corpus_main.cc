// strata-corpus: builds, shows, checks and publishes corpus snapshots. README.md describes the
// flags. Exit status: 0 done, 1 failed (one line on standard error says why), 2 wrong usage.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/base/file_limit.h"
#include "services/draft/corpus/build.h"
#include "services/draft/corpus/manifest.h"
#include "services/draft/corpus/merge.h"
#include "services/draft/corpus/progress.h"
#include "services/draft/corpus/publish.h"
#include "services/draft/corpus/retention.h"
#include "services/draft/corpus/snapshot_format.h"
#include "services/draft/corpus/snapshot_verifier.h"

namespace strata::draft {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongUsage = 2;
constexpr size_t kMiB = 1 << 20;

std::atomic<bool> g_cancel{false};
static_assert(std::atomic<bool>::is_always_lock_free);

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "strata-corpus: %s\n", status.ToString().c_str());
  return kFailed;
}

// "6" or "1-6".
absl::StatusOr<int> ParseOrders(absl::string_view text) {
  absl::string_view last = text;
  absl::ConsumePrefix(&last, "1-");
  int order = 0;
  if (!absl::SimpleAtoi(last, &order) || order < 1 || order > kMaxContextOrder) {
    return absl::InvalidArgumentError(absl::StrCat("--orders ", text,
                                                   ": wanted is the longest context, 1 to ",
                                                   kMaxContextOrder, ", as in 6 or 1-6"));
  }
  return order;
}

std::string MiB(uint64_t bytes) {
  return absl::StrCat((bytes * 10 / kMiB) / 10, ".", (bytes * 10 / kMiB) % 10, " MiB");
}

void PrintManifest(const std::string& path, const Manifest& manifest) {
  const CountOptions& options = manifest.options;
  std::printf("snapshot     %s\n", path.c_str());
  std::printf("format       %d\n", kFormatVersion);
  std::printf("tokenizer    %s, %lld tokens\n", manifest.tokenizer_fingerprint.c_str(),
              static_cast<long long>(manifest.vocab_size));
  std::printf("documents    %llu\n", static_cast<unsigned long long>(manifest.documents));
  std::printf("tokens       %llu\n", static_cast<unsigned long long>(manifest.tokens));
  std::printf("kind         %s\n", options.shard ? "shard" : "snapshot");
  std::printf("options      orders 1-%d", options.max_order);
  if (!options.shard) {
    std::printf("; top %d; prune-count %llu; prune-continuations %llu", options.top,
                static_cast<unsigned long long>(options.prune_count),
                static_cast<unsigned long long>(options.prune_continuations));
  }
  std::printf("\n");
  std::printf("contexts     %llu\n", static_cast<unsigned long long>(manifest.context_count()));
  for (size_t i = 0; i < manifest.contexts.size(); ++i) {
    std::printf("  order %-4zu %llu\n", i + 1,
                static_cast<unsigned long long>(manifest.contexts[i]));
  }
  std::printf("files        %zu, %s, %.1f bytes a token\n", manifest.files.size(),
              MiB(manifest.file_bytes()).c_str(),
              static_cast<double>(manifest.file_bytes()) /
                  static_cast<double>(std::max<uint64_t>(manifest.tokens, 1)));
}

nlohmann::json ToJson(const std::string& path, const Manifest& manifest) {
  nlohmann::json json = nlohmann::json::parse(ManifestToJson(manifest), nullptr, false);
  json["path"] = path;
  json["context_count"] = manifest.context_count();
  json["bytes"] = manifest.file_bytes();
  return json;
}

// Paths may hold any bytes; JSON may not.
void PrintJson(const nlohmann::json& json) {
  std::printf("%s\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

const std::atomic<bool>* CancelOnSignals() {
  std::signal(SIGINT, [](int) { g_cancel.store(true); });
  std::signal(SIGTERM, [](int) { g_cancel.store(true); });
  return &g_cancel;
}

int Build(BuildRequest& request, bool json) {
  request.cancel = CancelOnSignals();
  const absl::Time started = absl::Now();
  absl::StatusOr<BuildReport> report;
  {
    ProgressBar bar;
    request.progress = [&bar](const char* phase, double share) { bar.Show(phase, share); };
    request.warn = [&bar](const std::string& warning) {
      bar.Clear();
      std::fprintf(stderr, "strata-corpus: warning: %s\n", warning.c_str());
    };
    report = BuildFromFiles(request);
    if (!report.ok()) bar.Clear();
  }
  if (!report.ok()) return Fail(report.status());
  const double seconds = absl::ToDoubleSeconds(absl::Now() - started);
  if (json) {
    nlohmann::json out = ToJson(report->path, report->manifest);
    out["input_files"] = report->files;
    out["skipped_binary_files"] = report->skipped.skipped_binary_files;
    out["skipped_lines"] = report->skipped.skipped_lines;
    out["tier_files"] = report->tiers.files;
    out["skipped_tier_files"] = report->tiers.damaged;
    out["skipped_tier_segments"] = report->tiers.segments_left_out;
    out["runs"] = report->runs;
    out["resumed_runs"] = report->resumed_runs;
    out["seconds"] = seconds;
    PrintJson(out);
    return 0;
  }
  PrintManifest(report->path, report->manifest);
  if (report->resumed_runs > 0) {
    std::printf("resumed      %d sorted runs of an earlier build were there\n",
                report->resumed_runs);
  }
  std::printf("input        %llu files; left out: %llu binary files, %llu lines\n",
              static_cast<unsigned long long>(report->files),
              static_cast<unsigned long long>(report->skipped.skipped_binary_files),
              static_cast<unsigned long long>(report->skipped.skipped_lines));
  if (!request.tiers.inputs.empty()) {
    std::printf("model tiers  %llu; left out: %llu of other tenants, %llu damaged, %llu segments\n",
                static_cast<unsigned long long>(report->tiers.files),
                static_cast<unsigned long long>(report->tiers.other_tenants),
                static_cast<unsigned long long>(report->tiers.damaged),
                static_cast<unsigned long long>(report->tiers.segments_left_out));
  }
  std::printf("time         %.1f s\n", seconds);
  return 0;
}

int Merge(MergeRequest& request, bool json) {
  request.cancel = CancelOnSignals();
  const absl::Time started = absl::Now();
  absl::StatusOr<MergeReport> report;
  {
    ProgressBar bar;
    request.progress = [&bar](const char* phase, double share) { bar.Show(phase, share); };
    report = MergeShards(request);
    if (!report.ok()) bar.Clear();
  }
  if (!report.ok()) return Fail(report.status());
  const double seconds = absl::ToDoubleSeconds(absl::Now() - started);
  if (json) {
    nlohmann::json out = ToJson(report->path, report->manifest);
    out["shards"] = request.shards.size();
    out["seconds"] = seconds;
    PrintJson(out);
    return 0;
  }
  PrintManifest(report->path, report->manifest);
  std::printf("shards       %zu\ntime         %.1f s\n", request.shards.size(), seconds);
  return 0;
}

int Inspect(const std::string& dir, bool json) {
  auto path = ResolveSnapshot(dir);
  if (!path.ok()) return Fail(path.status());
  auto manifest = ReadManifest(*path);
  if (!manifest.ok()) return Fail(manifest.status());
  if (json) {
    PrintJson(ToJson(*path, *manifest));
  } else {
    PrintManifest(*path, *manifest);
  }
  return 0;
}

int Verify(const std::string& dir, bool json) {
  auto path = ResolveSnapshot(dir);
  if (!path.ok()) return Fail(path.status());
  absl::StatusOr<VerifyReport> report;
  {
    ProgressBar bar;
    report = VerifySnapshot(*path, [&bar](double share) { bar.Show("decoding", share); });
    if (!report.ok()) bar.Clear();
  }
  if (!report.ok()) return Fail(report.status());
  if (json) {
    PrintJson({{"path", *path},
               {"ok", true},
               {"files", report->files},
               {"bytes", report->bytes},
               {"contexts", report->contexts},
               {"continuations", report->continuations}});
  } else {
    std::printf("%s: whole (%llu files, %s, %llu contexts, %llu continuations)\n", path->c_str(),
                static_cast<unsigned long long>(report->files), MiB(report->bytes).c_str(),
                static_cast<unsigned long long>(report->contexts),
                static_cast<unsigned long long>(report->continuations));
  }
  return 0;
}

// `keep` 0: all.
int Publish(const std::string& dir, size_t keep) {
  const auto before = PublishSnapshot(dir);
  if (!before.ok()) return Fail(before.status());
  std::printf("live now: %s; before: %s\n", FolderName(dir).c_str(),
              before->empty() ? "none" : before->c_str());
  if (keep == 0) return 0;
  const auto removed =
      RemoveOldSnapshots((std::filesystem::path(dir) / "..").string(), keep, {*before});
  if (!removed.ok()) return Fail(removed.status());
  for (const std::string& name : *removed) std::printf("removed: %s\n", name.c_str());
  return 0;
}

// What build and merge share.
void AddOutput(CLI::App& command, std::string& root, BuilderOptions& options, bool& json) {
  command.add_option("--out", root, "Folder that holds the snapshots and CURRENT")->required();
  command.add_option("--name", options.name, "Name of the snapshot (default: the time)");
  command
      .add_option("--top", options.count.top, "Continuations told of a context, the most frequent")
      ->capture_default_str();
  command
      .add_option("--prune-count", options.count.prune_count,
                  "Leave out contexts of two and more tokens that are seen less often")
      ->capture_default_str();
  command
      .add_option("--prune-continuations", options.count.prune_continuations,
                  "Leave out continuations of these contexts that are seen less often")
      ->capture_default_str();
  command.add_flag("--shard", options.count.shard,
                   "Keep every count, to be merged; the options above then have no effect");
  command.add_flag("--keep-current", options.keep_current,
                   "Leave CURRENT as it is, to check the snapshot before it is live; see publish");
  command.add_option(
      "--threads", options.threads,
      "Threads (default: one a core, at most 64; build: as many of these as --memory "
      "allows)");
  command.add_flag("--json", json, "Print the result as JSON");
}

int Main(int argc, char** argv) {
  CLI::App app("Builds, joins, shows, checks and publishes corpus snapshots for strata-draft.",
               "strata-corpus");
  app.require_subcommand(1);
  bool json = false;
  std::string dir;

  BuildRequest request;
  request.builder.threads =
      static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 64u));
  std::string orders = "1-6";
  size_t memory = 1024;
  CLI::App* build = app.add_subcommand("build",
                                       "Builds a snapshot from text, .jsonl, either "
                                       "also .gz, .xz, .zst, and folders");
  build->add_option("--tokenizer", request.tokenizer_dir, "Folder with the model's tokenizer.json")
      ->required();
  AddOutput(*build, request.root, request.builder, json);
  build->add_option("--field", request.read.field, "Member of a .jsonl line that holds its text")
      ->capture_default_str();
  build->add_flag("--skip-invalid-lines", request.read.skip_invalid_lines,
                  "Leave out unfit .jsonl lines instead of failing");
  build->add_option("--orders", orders, "Longest context in tokens, as 6 or 1-6")
      ->capture_default_str();
  build
      ->add_option(
          "--memory", memory,
          absl::StrCat("MiB of the whole process; what does not fit goes to disk. At least ",
                       LeastBuildMemory(1) / kMiB, ", and ",
                       (LeastBuildMemory(2) - LeastBuildMemory(1)) / kMiB,
                       " more for each thread after the first"))
      ->check(CLI::Range(size_t{1}, size_t{1} << 30))
      ->capture_default_str();
  build->add_flag("--fresh", request.builder.fresh,
                  "Discard what an interrupted build left instead of going on with it");
  build
      ->add_option("--model-tiers", request.tiers.inputs,
                   "Count what a model said, too: model tiers that strata-draft saved, as files or "
                   "folders; may be repeated")
      ->allow_extra_args(false);
  build
      ->add_option(
          "--tenant", request.tiers.tenants,
          "Whose model tiers to count; may be repeated. What is in a corpus is drafted from "
          "for all tenants")
      ->allow_extra_args(false);
  build->add_flag("--all-tenants", request.tiers.all_tenants, "Count every tenant's model tiers");
  CLI::Option* input = build->add_option("INPUT", request.inputs, "Files and folders of text");

  MergeRequest merging;
  merging.builder.threads = request.builder.threads;
  CLI::App* merge = app.add_subcommand("merge", "Joins shards into a snapshot or a larger shard");
  AddOutput(*merge, merging.root, merging.builder, json);
  merge->add_option("SHARD", merging.shards, "Folders that build --shard made")->required();

  CLI::App* inspect = app.add_subcommand("inspect", "Shows what a snapshot says about itself");
  inspect->add_flag("--json", json, "As JSON");
  inspect->add_option("DIR", dir, "A snapshot, or a folder with CURRENT")->required();

  CLI::App* verify = app.add_subcommand("verify", "Reads all of a snapshot and checks it");
  verify->add_flag("--json", json, "As JSON");
  verify->add_option("DIR", dir, "A snapshot, or a folder with CURRENT")->required();

  CLI::App* publish = app.add_subcommand(
      "publish", "Makes a snapshot the live one, in one step: a new one, or an old one again");
  publish->add_option("DIR", dir, "The snapshot, in the folder that holds CURRENT")->required();
  size_t keep = 0;
  publish
      ->add_option(
          "--keep", keep,
          "Then remove the snapshots beside it but for so many made last, and the one that "
          "was live before (default: all stay)")
      ->check(CLI::Range(size_t{1}, size_t{1} << 20));

  try {
    app.parse(argc, argv);
    if (*build && input->empty() && request.tiers.inputs.empty()) {
      throw CLI::RequiredError("INPUT or --model-tiers");
    }
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongUsage;
  }
  // Each run of a build, and each table of the snapshots that are merged, is an open file. Where
  // there is no raising it, whatever runs out says so.
  RaiseOpenFileLimit().IgnoreError();
  if (*inspect) return Inspect(dir, json);
  if (*verify) return Verify(dir, json);
  if (*publish) return Publish(dir, keep);
  if (*merge) return Merge(merging, json);
  auto parsed = ParseOrders(orders);
  if (!parsed.ok()) return Fail(parsed.status());
  request.builder.count.max_order = *parsed;
  request.builder.memory_bytes = memory * kMiB;
  if (build->count("--threads") == 0) {
    request.builder.threads =
        std::clamp(MostBuildThreads(memory * kMiB), 1, request.builder.threads);
  }
  return Build(request, json);
}

}  // namespace
}  // namespace strata::draft

int main(int argc, char** argv) {
  try {
    return strata::draft::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "strata-corpus: %s\n", error.what());
    return 1;
  }
}
