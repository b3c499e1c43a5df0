#include "services/verify/scheduler/scheduler.h"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <new>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/retry_after.h"
#include "common/base/steady_clock.h"
#include "services/verify/engine/parallel.h"
#include "spdlog/spdlog.h"

namespace strata::verify {
namespace {

// Draft nodes in one pass over all sequences: the engine takes 8,192 rows, prompt chunks among
// them, and each node has a row of logits.
constexpr int64_t kMaxTreeRows = 2048;
constexpr int64_t kMaxTreeLogitBytes = int64_t{512} << 20;
// Rows that one thread ranks, and takes the greatest logits of, before another is worth waking: a
// few microseconds each.
constexpr int64_t kRankedRowsAThread = 64;
// When who came while the service shuts down should ask another one.
constexpr absl::Duration kElsewhereAfter = absl::Milliseconds(100);

absl::Status OutOfRange(const char* name, int64_t value, int64_t low, int64_t high) {
  return absl::InvalidArgumentError(
      absl::StrCat(name, " is ", value, ", must be in [", low, ", ", high, "]"));
}

absl::Status ToStatus(const engine::Status& status) {
  const absl::StatusCode code = status.code() == engine::ErrorCode::kResourceExhausted
                                    ? absl::StatusCode::kResourceExhausted
                                    : absl::StatusCode::kInternal;
  return absl::Status(code, absl::StrCat("forward pass failed: ", status.message()));
}

int64_t PrefixCachePages(const SchedulerOptions& options, const engine::EngineInfo& info) {
  if (!(options.prefix_cache_share > 0)) return 0;
  if (!info.exact) {
    spdlog::warn(
        "prompts are computed anew for each request: without exactness, what another "
        "request computed might differ");
    return 0;
  }
  return static_cast<int64_t>(options.prefix_cache_share *
                              static_cast<double>(info.kv_pages_total));
}

absl::Status QueueIsFull(size_t waiting) {
  return absl::ResourceExhaustedError(
      absl::StrCat("the queue is full: ", waiting, " requests wait"));
}

}  // namespace

absl::Status ValidateSchedulerOptions(const SchedulerOptions& options) {
  if (options.max_batch < 1 || options.max_batch > 1024) {
    return OutOfRange("max_batch", options.max_batch, 1, 1024);
  }
  if (options.max_queue < 1) return OutOfRange("max_queue", options.max_queue, 1, INT32_MAX);
  if (options.prefill_chunk < 1) {
    return OutOfRange("prefill_chunk", options.prefill_chunk, 1, INT32_MAX);
  }
  if (options.recycled_tokens < 0 || options.recycled_tokens > RowRanking::kMaxTokens) {
    return OutOfRange("recycled_tokens", options.recycled_tokens, 0, RowRanking::kMaxTokens);
  }
  if (!(options.prefix_cache_share >= 0 && options.prefix_cache_share <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("prefix_cache_share is ", options.prefix_cache_share, ", must be in [0, 1]"));
  }
  if (!(options.slowed_share >= 0 && options.slowed_share <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("slowed_share is ", options.slowed_share, ", must be in [0, 1]"));
  }
  if (options.draft_nodes > options.max_draft_nodes) {
    return OutOfRange("draft_nodes", options.draft_nodes, 0, options.max_draft_nodes);
  }
  return absl::OkStatus();
}

Scheduler::Scheduler(const SchedulerOptions& options, engine::Engine& engine,
                     const Tokenizer& tokenizer, std::unique_ptr<DraftSource> draft_source,
                     StepCost cost)
    : options_(options),
      engine_(engine),
      tokenizer_(tokenizer),
      draft_source_(std::move(draft_source)),
      prefix_cache_(engine, PrefixCachePages(options, engine.info())),
      budget_(std::move(cost)),
      slowed_places_(options.slowed_share),
      output_(engine.host_memory()),
      worker_([this] { Run(); }) {}

Scheduler::~Scheduler() {
  {
    absl::MutexLock lock(&mutex_);
    admitting_ = false;
    stopping_ = true;
  }
  worker_.join();
}

int64_t Scheduler::PagesFor(int64_t tokens) const {
  const int64_t page = engine_.info().kv_page_tokens;
  return (tokens + page - 1) / page;
}

absl::Status Scheduler::Submit(GenerationRequest request, std::shared_ptr<GenerationSink> sink) {
  const engine::EngineInfo& info = engine_.info();
  if (request.prompt.empty()) return absl::InvalidArgumentError("the prompt is empty");
  for (const TokenId token : request.prompt) {
    if (token < 0 || token >= info.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("the prompt has token id ", token,
                                                     ", must be in [0, ", info.vocab_size, ")"));
    }
  }
  if (request.max_tokens < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_tokens is ", request.max_tokens, ", must be at least 1"));
  }
  const int64_t prompt_tokens = static_cast<int64_t>(request.prompt.size());
  const int64_t room = info.max_sequence_length - prompt_tokens;
  if (room < 1) {
    return absl::OutOfRangeError(absl::StrCat("the prompt has ", prompt_tokens, " tokens, at most ",
                                              info.max_sequence_length - 1,
                                              " leave room for an answer"));
  }
  request.max_tokens = std::min(request.max_tokens, room);
  if (request.max_nodes.has_value()) {
    request.max_nodes = std::min(*request.max_nodes, options_.max_draft_nodes);
  }
  // A draft tree has at most as many nodes as there are tokens left, so it fits too.
  if (PagesFor(prompt_tokens + request.max_tokens) > info.kv_pages_total) {
    return absl::ResourceExhaustedError(
        absl::StrCat("prompt and max_tokens need room for ", prompt_tokens + request.max_tokens,
                     " tokens, the KV cache has ", info.kv_pages_total * info.kv_page_tokens));
  }
  std::optional<WaitingRequest> displaced;
  {
    absl::MutexLock lock(&mutex_);
    if (!admitting_) {
      return WithRetryAfter(absl::UnavailableError("the service is shutting down"),
                            kElsewhereAfter);
    }
    const bool full = waiting_.size() >= static_cast<size_t>(options_.max_queue);
    if (full && !waiting_.MakesWayFor(request.tenant)) return QueueIsFull(waiting_.size());
    waiting_.Push({std::move(request), std::move(sink), SteadyNow()});
    // One comes for one that goes.
    if (full) {
      displaced = waiting_.TakeNewestOfMost();
    } else {
      ++unfinished_;
    }
  }
  if (displaced) {
    displaced->sink->OnFinish(QueueIsFull(static_cast<size_t>(options_.max_queue)),
                              FinishReason::kNone, {});
  }
  return absl::OkStatus();
}

size_t Scheduler::queue_length() const {
  absl::MutexLock lock(&mutex_);
  return waiting_.size();
}

void Scheduler::StopAdmission() {
  absl::MutexLock lock(&mutex_);
  admitting_ = false;
}

bool Scheduler::WaitIdle(absl::Duration timeout) const {
  absl::MutexLock lock(&mutex_);
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return unfinished_ == 0; };
  return finished_.WaitFor(mutex_, timeout, idle);
}

void Scheduler::Run() {
  TellStepCost();
  while (AwaitRequests()) {
    // Only lack of memory and the like is thrown. What it leaves of this step's sequences is not
    // to be trusted; the service and whoever waits go on.
    try {
      Admit();
      DropCancelled();
      if (!active_.empty()) Step();
    } catch (const std::exception& error) {
      spdlog::error("step of {} sequences failed: {}", active_.size(), error.what());
      EndAll(absl::InternalError(absl::StrCat("generation step failed: ", error.what())));
    }
  }
  const absl::Status stopped = absl::CancelledError("the service is shutting down");
  EndAll(stopped);
  std::vector<WaitingRequest> waiting;
  {
    absl::MutexLock lock(&mutex_);
    waiting = waiting_.TakeAll();
    unfinished_ = 0;
    finished_.NotifyAll();
  }
  for (WaitingRequest& left : waiting) left.sink->OnFinish(stopped, FinishReason::kNone, {});
}

bool Scheduler::HasRoomFor(const std::string& tenant, std::span<const TokenId> tokens) const {
  // Alone, whatever Submit took fits.
  if (active_.empty()) return true;
  int64_t free = engine_.kv_pages_free() + engine_.kv_pages_kept();
  for (const auto& sequence : active_) {
    const int64_t length = sequence->kv().length();
    free -= PagesFor(length + sequence->pending()) - PagesFor(length) + 1;
  }
  int64_t missing = PagesFor(static_cast<int64_t>(tokens.size())) + 1 - free;
  if (missing <= 0) return true;
  // What it shares with active ones is there already.
  for (const engine::KvPage* page : prefix_cache_.Find(tenant, tokens)) {
    if (page->in_use()) --missing;
  }
  return missing <= 0;
}

void Scheduler::AdmitPreempted() {
  while (!preempted_.empty() && active_.size() < static_cast<size_t>(options_.max_batch) &&
         HasRoomFor(preempted_.front()->tenant(), preempted_.front()->tokens())) {
    LiveSequence& next = *preempted_.front();
    next.Resume(prefix_cache_.NewSequence(next.tenant(), next.tokens()));
    active_.push_back(std::move(preempted_.front()));
    preempted_.erase(preempted_.begin());
  }
}

bool Scheduler::AwaitRequests() {
  absl::MutexLock lock(&mutex_);
  if (active_.empty() && preempted_.empty()) {
    const auto work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return stopping_ || !waiting_.empty();
    };
    mutex_.Await(absl::Condition(&work));
  }
  return !stopping_;
}

void Scheduler::Admit() {
  std::vector<WaitingRequest> cancelled;
  {
    absl::MutexLock lock(&mutex_);
    // Also those far back, so that they do not count against the queue's length.
    cancelled = waiting_.TakeCancelled();
    unfinished_ -= static_cast<int64_t>(cancelled.size());
    finished_.NotifyAll();
  }
  for (WaitingRequest& request : cancelled) {
    request.sink->OnFinish(absl::CancelledError("cancelled while waiting"), FinishReason::kNone,
                           {});
  }
  AdmitPreempted();
  WaitingQueue::ActiveCounts counts;
  for (const auto& sequence : active_) ++counts[sequence->tenant()];
  while (preempted_.empty() && active_.size() < static_cast<size_t>(options_.max_batch)) {
    WaitingRequest next;
    {
      absl::MutexLock lock(&mutex_);
      if (waiting_.empty()) break;
      // Whoever is next is waited for: a large request is not overtaken for ever by small ones.
      const GenerationRequest& request = waiting_.Next(counts).request;
      if (!HasRoomFor(request.tenant, request.prompt)) break;
      next = waiting_.Pop(counts);
    }
    counters_.queue_seconds.Observe(absl::ToDoubleSeconds(SteadyNow() - next.arrival));
    const std::shared_ptr<GenerationSink> sink = next.sink;
    try {
      ++counts[next.request.tenant];
      auto kv = prefix_cache_.NewSequence(next.request.tenant, next.request.prompt);
      active_.push_back(std::make_unique<LiveSequence>(next_id_++, std::move(next.request),
                                                       std::move(next.sink), std::move(kv),
                                                       tokenizer_, next.arrival));
    } catch (const std::exception& error) {
      spdlog::error("admitting a request failed: {}", error.what());
      sink->OnFinish(absl::InternalError(absl::StrCat("cannot be admitted: ", error.what())),
                     FinishReason::kNone, {});
      absl::MutexLock lock(&mutex_);
      --unfinished_;
      finished_.NotifyAll();
    }
  }
}

bool Scheduler::Leads(const LiveSequence& leader, const LiveSequence& follower) const {
  const int64_t done = leader.kv().length();
  if (leader.id() >= follower.id() || !leader.prefilling() || done < follower.kv().length() ||
      leader.tenant() != follower.tenant()) {
    return false;
  }
  const std::span<const TokenId> tokens = follower.tokens().first(follower.tokens().size() - 1);
  const auto parting = std::ranges::mismatch(tokens, leader.tokens()).in1;
  const int64_t pages = (parting - tokens.begin()) / engine_.info().kv_page_tokens;
  return done < std::min(pages, prefix_cache_.capacity()) * engine_.info().kv_page_tokens;
}

void Scheduler::FollowPrompts() {
  if (prefix_cache_.capacity() == 0) return;
  for (const auto& sequence : active_) {
    if (!sequence->follows()) continue;
    auto kv = prefix_cache_.NewSequence(sequence->tenant(), sequence->tokens());
    if (kv->length() > sequence->kv().length()) sequence->CatchUp(std::move(kv));
  }
  for (const auto& sequence : active_) {
    sequence->set_follows(
        sequence->prefilling() &&
        std::ranges::any_of(active_, [&](const auto& other) { return Leads(*other, *sequence); }));
  }
}

void Scheduler::DropCancelled() {
  std::vector<uint64_t> ids;
  for (const Sequences* sequences : {&active_, &preempted_}) {
    for (const auto& sequence : *sequences) {
      if (sequence->sink().cancelled()) ids.push_back(sequence->id());
    }
  }
  if (!ids.empty()) TakeDrafts();
  for (const uint64_t id : ids) End(id, absl::CancelledError("cancelled by the client"));
}

void Scheduler::Step() {
  const absl::Time start = SteadyNow();
  counters_.steps.Add(1);
  FollowPrompts();
  TakeDrafts();
  MakeRoom();
  std::vector<engine::SequenceInput> inputs;
  std::vector<LiveSequence*> batch = PlanBatch(inputs);
  CountSequences();
  StepWork work = {.step_start = start, .draft_wait = draft_wait_, .start = SteadyNow()};
  ForwardAndVerify(std::move(batch), std::move(inputs), work);
  EndFailed(work);
  // Before all else that is to be done with the tokens: drafts are made meanwhile.
  AskForDrafts();
  Publish(work);
  counters_.step_seconds.Observe(absl::ToDoubleSeconds(SteadyNow() - start));
}

void Scheduler::CountSequences() {
  counters_.active.Set(static_cast<int64_t>(active_.size()));
  counters_.preempted.Set(static_cast<int64_t>(preempted_.size()));
}

int64_t Scheduler::MaxStepNodes() const {
  const int64_t logit_bytes = engine_.info().vocab_size * static_cast<int64_t>(sizeof(float));
  return std::min(kMaxTreeRows, kMaxTreeLogitBytes / logit_bytes);
}

void Scheduler::AskForDrafts() {
  struct Wish {
    uint32_t nodes = 0;
    LiveSequence* sequence = nullptr;
  };
  std::vector<Wish> wishes;
  for (const auto& sequence : active_) {
    const uint32_t nodes = sequence->DraftBudget(options_.draft_nodes);
    if (nodes > 0) wishes.push_back({nodes, sequence.get()});
  }
  draft_wait_ = absl::ZeroDuration();
  if (wishes.empty()) return;
  if (options_.measured_budget) {
    if (!budget_.WorthAsking(wishes.size())) return;
    const uint32_t wanted = budget_.Wanted(wishes.size());
    for (Wish& wish : wishes) wish.nodes = std::min(wish.nodes, wanted);
  }
  // Those that want little leave their share to the others.
  std::stable_sort(wishes.begin(), wishes.end(),
                   [](const Wish& a, const Wish& b) { return a.nodes < b.nodes; });
  std::vector<DraftQuery> queries;
  int64_t nodes_left = MaxStepNodes();
  for (size_t i = 0; i < wishes.size(); ++i) {
    const int64_t share = nodes_left / static_cast<int64_t>(wishes.size() - i);
    const uint32_t budget = static_cast<uint32_t>(std::min<int64_t>(share, wishes[i].nodes));
    if (budget == 0) continue;
    nodes_left -= budget;
    queries.push_back(wishes[i].sequence->NextQuery(budget));
    asked_.push_back({wishes[i].sequence, budget});
  }
  const absl::Time start = SteadyNow();
  try {
    draft_source_->Ask(queries);
  } catch (const std::exception& error) {
    // No draft is worth a request.
    spdlog::error("asking for drafts failed: {}", error.what());
    asked_.clear();
  }
  draft_wait_ = SteadyNow() - start;
}

std::vector<DraftReply> Scheduler::AwaitDrafts() {
  std::vector<DraftReply> replies;
  if (asked_.empty()) return replies;
  try {
    draft_source_->Take(replies);
  } catch (const std::exception& error) {
    spdlog::error("drafting failed: {}", error.what());
    replies.assign(asked_.size(), DraftReply{.tree = {}, .missed = true});
  }
  return replies;
}

void Scheduler::TakeDrafts() {
  if (asked_.empty()) return;
  const absl::Time start = SteadyNow();
  std::vector<DraftReply> replies = AwaitDrafts();
  draft_wait_ += SteadyNow() - start;
  counters_.draft_wait_seconds.Observe(absl::ToDoubleSeconds(draft_wait_));
  for (size_t i = 0; i < asked_.size() && i < replies.size(); ++i) {
    LiveSequence& sequence = *asked_[i].sequence;
    sequence.stats().draft_time += draft_wait_;
    sequence.trace().OnDraft(start, replies[i]);
    if (replies[i].missed) {
      ++sequence.stats().draft_misses;
      counters_.draft_misses.Add(1);
    }
    if (absl::Status status = ValidateDraftTree(replies[i].tree, engine_.info().vocab_size,
                                                static_cast<int>(asked_[i].nodes));
        !status.ok()) {
      spdlog::debug("draft dropped: {}", std::string(status.message()));
      continue;
    }
    sequence.SetTree(std::move(replies[i].tree));
  }
  asked_.clear();
  if (options_.measured_budget) SpendBudget();
}

void Scheduler::SpendBudget() {
  std::vector<NodeBudget::Offer> offers;
  std::vector<LiveSequence*> decoding;
  for (const auto& sequence : active_) {
    if (sequence->prefilling()) continue;
    NodeBudget::Offer& offer = offers.emplace_back();
    offer.tree = &sequence->tree();
    offer.context = static_cast<int64_t>(sequence->tokens().size());
    if (sequence->speculates()) offer.lead_steps = sequence->lead().steps();
    decoding.push_back(sequence.get());
  }
  const std::vector<int64_t> prompt_rows = PromptRows();
  const std::vector<std::vector<int32_t>> kept =
      budget_.Choose(offers, std::reduce(prompt_rows.begin(), prompt_rows.end()),
                     slowed_places_.Of(static_cast<int64_t>(offers.size())));
  for (size_t i = 0; i < decoding.size(); ++i) {
    if (kept[i].size() < decoding[i]->tree().tokens.size()) decoding[i]->KeepNodes(kept[i]);
  }
}

std::vector<int64_t> Scheduler::PromptRows() const {
  std::vector<int64_t> rows(active_.size());
  std::vector<size_t> prefilling;
  for (size_t i = 0; i < active_.size(); ++i) {
    if (active_[i]->prefilling() && !active_[i]->follows()) prefilling.push_back(i);
  }
  std::stable_sort(prefilling.begin(), prefilling.end(), [this](size_t a, size_t b) {
    return active_[a]->pending() < active_[b]->pending();
  });
  int64_t left = options_.prefill_chunk;
  // With fewer rows than sharers the shortest go first, one row at least; but whatever comes after
  // it, the oldest goes on.
  if (left < static_cast<int64_t>(prefilling.size())) {
    const auto oldest = std::min_element(
        prefilling.begin(), prefilling.end(),
        [this](size_t a, size_t b) { return active_[a]->id() < active_[b]->id(); });
    std::rotate(prefilling.begin(), oldest, oldest + 1);
  }
  for (size_t k = 0; k < prefilling.size(); ++k) {
    const auto sharers = static_cast<int64_t>(prefilling.size() - k);
    const int64_t share = std::min(left, std::max<int64_t>(1, left / sharers));
    rows[prefilling[k]] = std::min(active_[prefilling[k]]->pending(), share);
    left -= rows[prefilling[k]];
  }
  return rows;
}

int64_t Scheduler::MissingPages() const {
  const std::vector<int64_t> prompt_rows = PromptRows();
  int64_t missing = -engine_.kv_pages_free();
  for (size_t i = 0; i < active_.size(); ++i) {
    const int64_t length = active_[i]->kv().length();
    const int64_t rows = active_[i]->prefilling()
                             ? prompt_rows[i]
                             : active_[i]->pending() + active_[i]->tree().size();
    missing += PagesFor(length + rows) - PagesFor(length);
  }
  return missing;
}

void Scheduler::MakeRoom() {
  prefix_cache_.Evict(MissingPages());
  if (MissingPages() <= 0) return;
  // A draft is not worth anybody's place.
  for (const auto& sequence : active_) sequence->KeepNodes({});
  while (active_.size() > 1 && MissingPages() > 0) {
    const auto youngest =
        std::max_element(active_.begin(), active_.end(),
                         [](const auto& a, const auto& b) { return a->id() < b->id(); });
    // What the others do not need of it, it finds again.
    Remember(**youngest);
    std::unique_ptr<LiveSequence> sequence = std::move(*youngest);
    active_.erase(youngest);
    sequence->Preempt(engine_.NewSequence());
    counters_.preemptions.Add(1);
    // Younger than all that stayed, older than all that went before it.
    preempted_.insert(preempted_.begin(), std::move(sequence));
    prefix_cache_.Evict(MissingPages());
  }
}

void Scheduler::Remember(const LiveSequence& sequence) {
  prefix_cache_.Insert(sequence.tenant(), sequence.tokens(), sequence.kv());
}

std::vector<LiveSequence*> Scheduler::PlanBatch(std::vector<engine::SequenceInput>& inputs) {
  std::vector<LiveSequence*> batch;
  const bool rank_prompts = options_.recycle_prompts && options_.recycled_tokens > 0;
  const std::vector<int64_t> prompt_rows = PromptRows();
  for (size_t i = 0; i < active_.size(); ++i) {
    LiveSequence& sequence = *active_[i];
    if (sequence.prefilling() && prompt_rows[i] == 0) continue;
    inputs.push_back(sequence.PrepareInput(prompt_rows[i], rank_prompts));
    batch.push_back(&sequence);
  }
  return batch;
}

void Scheduler::ForwardAndVerify(std::vector<LiveSequence*> batch,
                                 std::vector<engine::SequenceInput> inputs, StepWork& work) {
  const absl::Time start = SteadyNow();
  const engine::Status forward = engine_.Forward(inputs, output_);
  if (!forward.ok()) {
    const bool drafted = std::ranges::any_of(
        batch, [](const LiveSequence* sequence) { return !sequence->tree().empty(); });
    if (batch.size() == 1 && !drafted) {
      work.verified.push_back({.sequence = batch[0], .status = ToStatus(forward)});
      return;
    }
    // One sequence must not fail the others, nor a draft its own.
    spdlog::error("forward pass of {} sequences failed ({}); running them one by one, undrafted",
                  batch.size(), forward.message());
    for (size_t i = 0; i < batch.size(); ++i) {
      LiveSequence& sequence = *batch[i];
      const auto rows = static_cast<int64_t>(inputs[i].tokens.size());
      sequence.KeepNodes({});
      ForwardAndVerify({&sequence}, {sequence.PrepareInput(rows, /*rank_prompt=*/false)}, work);
    }
    return;
  }
  const absl::Time computed = SteadyNow();
  counters_.forward_seconds.Observe(absl::ToDoubleSeconds(computed - start));
  for (size_t i = 0; i < batch.size(); ++i) {
    const int64_t rows = static_cast<int64_t>(inputs[i].tokens.size());
    work.rows += rows;
    work.pairs += rows * batch[i]->kv().length();
    work.prefilling |= batch[i]->prefilling();
    if (!batch[i]->prefilling()) {
      const int64_t nodes = batch[i]->tree().size();
      work.draft_rows += nodes;
      work.draft_pairs += nodes * batch[i]->kv().length();
      work.plain_rows += rows - nodes;
      work.plain_pairs += (rows - nodes) * batch[i]->kv().length();
    }
    (batch[i]->prefilling() ? counters_.prompt_rows : counters_.decode_rows).Add(rows);
  }
  const size_t first = work.verified.size();
  for (LiveSequence* sequence : batch) {
    work.verified.push_back({.sequence = sequence,
                             .steps = sequence->stats().steps,
                             .tokens = sequence->stats().output_tokens,
                             .prompt = sequence->prefilling()});
  }
  VerifyAll(batch, inputs);
  for (size_t i = 0; i < batch.size(); ++i) {
    LiveSequence& sequence = *batch[i];
    Verified& verified = work.verified[first + i];
    absl::Duration& time =
        verified.prompt ? sequence.stats().prefill_time : sequence.stats().verify_time;
    verified.status = sequence.Commit(engine_);
    verified.steps = sequence.stats().steps - verified.steps;
    verified.tokens = sequence.stats().output_tokens - verified.tokens;
    // Ahead of the next question, which begins another step.
    const bool any = verified.tokens > 0;
    sequence.trace().OnPass({.step_start = work.step_start,
                             .forward_start = start,
                             .forward_end = computed,
                             .prompt = verified.prompt,
                             .rows = static_cast<int64_t>(inputs[i].tokens.size()),
                             .batch_rows = work.rows,
                             .batch_sequences = static_cast<int64_t>(batch.size()),
                             .tokens = verified.tokens,
                             .drafted = any ? sequence.verified_tree().tokens.size() : 0,
                             .accepted = any ? sequence.verified_nodes().size() : 0});
    time += SteadyNow() - start;
  }
}

void Scheduler::VerifyAll(std::span<LiveSequence* const> batch,
                          std::span<const engine::SequenceInput> inputs) {
  std::vector<int64_t> first_rows;
  int64_t row = 0;
  int reading = 0;
  for (size_t i = 0; i < batch.size(); ++i) {
    first_rows.push_back(row);
    row += static_cast<int64_t>(inputs[i].logit_rows.size());
    reading += batch[i]->reads_rows() && !inputs[i].logit_rows.empty() ? 1 : 0;
  }
  const auto sequences = static_cast<int64_t>(batch.size());
  // To draw a token from a whole row takes a good part of a millisecond.
  const int64_t grain = reading > 1 ? 1 : 1 + sequences * kRankedRowsAThread / (row + 1);
  const int recycled_tokens =
      options_.measured_budget && budget_.Dormant() ? 0 : options_.recycled_tokens;
  engine::ParallelFor(sequences, grain, [&](int64_t begin, int64_t end) {
    thread_local engine::SamplerScratch scratch;
    for (int64_t i = begin; i < end; ++i) {
      batch[static_cast<size_t>(i)]->Verify(output_, first_rows[static_cast<size_t>(i)],
                                            recycled_tokens, scratch);
    }
  });
}

void Scheduler::EndFailed(StepWork& work) {
  std::erase_if(work.verified, [this](const Verified& verified) {
    if (verified.status.ok()) return false;
    End(verified.sequence->id(), verified.status);
    return true;
  });
}

void Scheduler::Publish(const StepWork& work) {
  for (const Verified& verified : work.verified) {
    LiveSequence& sequence = *verified.sequence;
    sequence.Publish();
    CountVerified(verified);
    // At once, for those that come while it goes on.
    if (verified.prompt) Remember(sequence);
  }
  // Rows of a prompt cost less than those of a tree: most have no logits.
  if (options_.measured_budget) {
    CountLeads(work);
    if (!work.prefilling) LearnStep(work);
  }
  for (const Verified& verified : work.verified) {
    if (verified.sequence->finish_reason() == FinishReason::kNone) continue;
    End(verified.sequence->id(), absl::OkStatus());
  }
}

void Scheduler::CountVerified(const Verified& verified) {
  counters_.request_steps.Add(verified.steps);
  counters_.output_tokens.Add(verified.tokens);
  // Without a token nothing was verified, and the tree is that of an earlier step.
  if (verified.tokens == 0) return;
  try {
    counters_.CountTree(verified.sequence->verified_tree(), verified.sequence->verified_nodes(),
                        verified.tokens);
  } catch (const std::bad_alloc&) {
    // No count is worth a request.
  }
}

void Scheduler::LearnStep(const StepWork& work) {
  for (const Verified& verified : work.verified) {
    budget_.LearnVerdict(verified.sequence->verified_tree(), verified.sequence->verified_nodes());
  }
  // Without what asking for the next drafts took: that is theirs.
  budget_.LearnStep(work.rows, work.pairs, absl::ToDoubleSeconds(work.draft_wait),
                    absl::ToDoubleSeconds(SteadyNow() - work.start - draft_wait_));
  TellStepCost();
}

void Scheduler::TellStepCost() {
  for (size_t i = 0; i < SchedulerCounters::kCostRows.size(); ++i) {
    counters_.step_cost[i].Set(budget_.cost().Estimate(SchedulerCounters::kCostRows[i], 0));
  }
}

void Scheduler::CountLeads(const StepWork& work) {
  const StepCost& cost = budget_.cost();
  if (!cost.known()) return;
  // By what steps cost on the whole: what else held this one up would have done so without drafts.
  // Without prompts, which would have taken the same time: what drafts add is so many steps that
  // only decode.
  if (work.plain_rows == 0) return;
  const double plain_seconds = cost.Estimate(work.plain_rows, work.plain_pairs);
  if (plain_seconds <= 0) return;
  const double drafts_seconds =
      cost.Estimate(work.rows, work.pairs) -
      cost.Estimate(work.rows - work.draft_rows, work.pairs - work.draft_pairs);
  const double seconds = plain_seconds + drafts_seconds + absl::ToDoubleSeconds(work.draft_wait);
  for (const Verified& verified : work.verified) {
    if (verified.prompt || !verified.sequence->speculates()) continue;
    Lead& lead = verified.sequence->lead();
    lead.Add(verified.tokens, seconds / plain_seconds);
    if (verified.sequence->finish_reason() != FinishReason::kNone) {
      slowed_places_.End(lead.behind(), static_cast<int64_t>(active_.size()));
    }
  }
}

void Scheduler::End(uint64_t id, const absl::Status& status) {
  std::unique_ptr<LiveSequence> sequence;
  for (Sequences* sequences : {&active_, &preempted_}) {
    const auto it = std::find_if(sequences->begin(), sequences->end(),
                                 [id](const auto& candidate) { return candidate->id() == id; });
    if (it == sequences->end()) continue;
    sequence = std::move(*it);
    sequences->erase(it);
    break;
  }
  try {
    // A step that failed may have left anything.
    if (status.ok() || absl::IsCancelled(status)) Remember(*sequence);
  } catch (const std::exception& error) {
    spdlog::error("keeping a sequence's pages failed: {}", error.what());
  }
  try {
    if (sequence->drafted()) draft_source_->Close(id, sequence->tokens());
  } catch (const std::exception& error) {
    spdlog::error("closing a sequence of the draft source failed: {}", error.what());
  }
  sequence->ReleaseCache();
  counters_.CountEnd(sequence->stats());
  CountSequences();
  sequence->Finish(status);
  absl::MutexLock lock(&mutex_);
  --unfinished_;
  finished_.NotifyAll();
}

void Scheduler::EndAll(const absl::Status& status) {
  AwaitDrafts();
  asked_.clear();
  while (!active_.empty()) End(active_.back()->id(), status);
  while (!preempted_.empty()) End(preempted_.back()->id(), status);
}

}  // namespace strata::verify
