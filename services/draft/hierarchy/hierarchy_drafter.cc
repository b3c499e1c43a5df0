#include "services/draft/hierarchy/hierarchy_drafter.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/base/steady_clock.h"
#include "services/draft/hierarchy/request_checks.h"
#include "services/draft/hierarchy/sequence.h"
#include "services/draft/hierarchy/tree_drafter.h"
#include "services/draft/tiers/context_tier.h"
#include "services/draft/tiers/predicted_tier.h"

namespace strata::draft {
namespace {

// Observations that make a copy of a calibration (some 115 KB) worth it before the next save.
constexpr uint64_t kNewsWorthSaving = 256;

absl::Status CheckLimits(const DrafterLimits& limits) {
  if (limits.max_sessions >= 1 && limits.max_batch >= 1 && limits.max_sequences >= 1 &&
      limits.max_live_tokens >= 1 && limits.max_sequence_tokens >= 1 &&
      limits.max_predicted_tokens >= 1 && limits.max_nodes >= 1) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("every limit of the drafter must be at least 1");
}

absl::Status CheckPolicyOptions(const PolicyOptions& options) {
  if (options.policy != Policy::kLocality && options.policy != Policy::kCalibrated) {
    return absl::InvalidArgumentError("the default policy must be locality or calibrated");
  }
  if (options.max_calibrations < 1) {
    return absl::InvalidArgumentError("at least one calibration must be held");
  }
  if (options.draft_threads < 1 || options.draft_threads > kMaxDraftThreads) {
    return absl::InvalidArgumentError(absl::StrCat("draft_threads is ", options.draft_threads,
                                                   ", must be in [1, ", kMaxDraftThreads, "]"));
  }
  return absl::OkStatus();
}

// A place for one live sequence. It is retired once: closed, replaced or evicted.
struct Slot {
  absl::Mutex mutex;
  // Null once retired.
  std::unique_ptr<Sequence> sequence ABSL_GUARDED_BY(mutex);
  // Share of the drafter's live_tokens_.
  size_t reserved_tokens ABSL_GUARDED_BY(mutex) = 0;
  // absl::ToUnixNanos of SteadyNow at the last message about it.
  std::atomic<int64_t> last_used = 0;
};

// What an update taught, put by until the answer is out.
struct Lesson {
  ModelKey key;
  // The corpus is yet to be asked.
  Observation observation;
  // Of the message. The corpus is not asked any later, because the session's next message may wait.
  absl::Time deadline;
  std::vector<RowRanking> rankings;
  // Has output to teach the model tier; null if not.
  std::shared_ptr<Slot> slot;
  // Closed, its rest to be taught; null if not.
  std::unique_ptr<Sequence> ended;
};

struct Session {
  Session(std::string model, std::string fingerprint, int64_t vocabulary)
      : model_id(std::move(model)),
        tokenizer_fingerprint(std::move(fingerprint)),
        vocab_size(vocabulary) {}

  const std::string model_id;
  const std::string tokenizer_fingerprint;
  const int64_t vocab_size;
  absl::Mutex mutex;
  absl::flat_hash_map<uint64_t, std::shared_ptr<Slot>> slots ABSL_GUARDED_BY(mutex);
  std::vector<Lesson> lessons ABSL_GUARDED_BY(mutex);
  bool closed ABSL_GUARDED_BY(mutex) = false;
};

void Fail(SequenceAnswer& answer, SequenceStatus status, std::string message) {
  answer.status = status;
  answer.message = std::move(message);
}

// The answer to `update`, so far that it says which.
SequenceAnswer AnswerTo(const SequenceUpdate& update) {
  SequenceAnswer answer;
  answer.sequence_id = update.sequence_id;
  answer.epoch = update.epoch;
  answer.position = update.position + static_cast<uint32_t>(update.tokens.size());
  return answer;
}

// The session's slot of that sequence, or null.
std::shared_ptr<Slot> FindSlot(Session& session, uint64_t sequence_id) {
  absl::MutexLock lock(&session.mutex);
  const auto it = session.slots.find(sequence_id);
  return it == session.slots.end() ? nullptr : it->second;
}

// A sequence whose update was applied, and whose tree is to be drafted. All but the slot is
// borrowed from the call.
struct Pending {
  std::shared_ptr<Slot> slot;
  const SequenceUpdate* update = nullptr;
  SequenceAnswer* answer = nullptr;
};

// Whether a tree is the answer, or goes past it.
enum class TreeUse : uint8_t { kAnswer, kAhead };

// Lock order: slots of one batch by address, then a tier's or calibration's own; no other lock is
// held while another is taken.
class HierarchyDrafter final : public Drafter {
 public:
  explicit HierarchyDrafter(DrafterOptions options)
      : options_(std::move(options)),
        trees_(options_.policy, options_.corpus, options_.model_store) {}

  absl::Status OpenSession(const std::string& verifier_id, const std::string& model_id,
                           const std::string& tokenizer_fingerprint, int64_t vocab_size,
                           uint64_t* session) override;
  void CloseSession(uint64_t session) override;
  void Draft(uint64_t session, std::span<const SequenceUpdate> updates, absl::Time deadline,
             std::vector<SequenceAnswer>& answers) override;
  void DraftAhead(uint64_t session, std::span<const SequenceUpdate> updates, absl::Time deadline,
                  std::vector<SequenceAnswer>& answers) override;
  void Learn(uint64_t session) override;
  absl::Status DraftOnce(const OnceRequest& once, DraftTree& tree) override;
  DrafterStats Stats() const override;
  void SaveCalibrations() override { trees_.SaveCalibrations(); }

 private:
  absl::Status CheckFingerprint(const std::string& tokenizer_fingerprint) const;
  // Null if there is none of this handle.
  std::shared_ptr<Session> FindSession(uint64_t session) const;
  // Learns what is put by.
  void TakeLessons(Session& session);
  void TeachEvicted();

  // Applies one update; the answer's id, epoch and position are set already. The slot to draft for,
  // or null if the answer is complete.
  std::shared_ptr<Slot> Apply(Session& session, const SequenceUpdate& update, absl::Time deadline,
                              SequenceAnswer& answer);
  // The update's slot, made anew for position 0. Null if the answer is complete.
  std::shared_ptr<Slot> StartSequence(Session& session, const SequenceUpdate& update,
                                      SequenceAnswer& answer);
  std::shared_ptr<Slot> ContinueSequence(Session& session, const SequenceUpdate& update,
                                         absl::Time deadline, SequenceAnswer& answer);
  bool ApplyFeedback(const SequenceUpdate& update, const Sequence& sequence,
                     SequenceAnswer& answer);
  // What the update teaches besides what there was to observe. Needs the slot's lock for
  // `sequence`, which holds the update's tokens already.
  Lesson LessonOf(const SequenceUpdate& update, const std::shared_ptr<Slot>& slot,
                  const Sequence& sequence) const;
  // Drafts for all of `pending`, which are different slots, and empties it.
  void DraftPending(int64_t vocab_size, absl::Time deadline, TreeUse use,
                    std::vector<Pending>& pending);
  void CountAnswers(std::span<const SequenceAnswer> answers);
  // Needs the slot's lock for `sequence`.
  TreeRequest RequestFor(const SequenceUpdate& update, const Sequence& sequence, int64_t vocab_size,
                         uint32_t nodes) const;

  // Takes the slot out of the session if it is still there, and retires it.
  std::unique_ptr<Sequence> Remove(Session& session, uint64_t sequence_id,
                                   const std::shared_ptr<Slot>& slot);
  // Takes out what the slot holds, which counts as live no more. It is the caller's to teach the
  // rest of it (Sequence::Finish), or not. Null if the slot is retired already.
  std::unique_ptr<Sequence> Retire(Slot& slot);
  // Counts more sequences and tokens as live, evicting idle sequences if there is no room. False,
  // with the answer's status set, if that does not help.
  bool Reserve(size_t sequences, size_t tokens, SequenceAnswer& answer);
  bool TryReserve(size_t sequences, size_t tokens);
  void Release(size_t sequences, size_t tokens);
  void EvictIdle();
  std::vector<std::shared_ptr<Session>> Sessions() const;

  const DrafterOptions options_;
  const TreeDrafter trees_;

  mutable absl::Mutex mutex_;
  absl::flat_hash_map<uint64_t, std::shared_ptr<Session>> sessions_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_session_ ABSL_GUARDED_BY(mutex_) = 1;

  mutable absl::Mutex live_mutex_;
  size_t live_sequences_ ABSL_GUARDED_BY(live_mutex_) = 0;
  size_t live_tokens_ ABSL_GUARDED_BY(live_mutex_) = 0;

  // Made room for others, the rest of their output to be taught by whoever learns next: the
  // sessions that they are of may be silent for long.
  absl::Mutex evicted_mutex_;
  std::vector<std::unique_ptr<Sequence>> evicted_ ABSL_GUARDED_BY(evicted_mutex_);

  std::array<std::atomic<uint64_t>, kTierKinds> judged_nodes_{};
  std::array<std::atomic<uint64_t>, kTierKinds> accepted_nodes_{};
  std::array<std::atomic<uint64_t>, kTierKinds> drafted_nodes_{};
  std::array<std::atomic<uint64_t>, kSequenceStatuses> answers_{};
};

absl::Status HierarchyDrafter::CheckFingerprint(const std::string& tokenizer_fingerprint) const {
  if (options_.tokenizer_fingerprint.empty() ||
      tokenizer_fingerprint == options_.tokenizer_fingerprint) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "tokenizer fingerprint ", tokenizer_fingerprint, " is not that of this service's ",
      options_.corpus == nullptr ? "configuration" : "corpus", ", ",
      options_.tokenizer_fingerprint));
}

absl::Status HierarchyDrafter::OpenSession(const std::string& verifier_id,
                                           const std::string& model_id,
                                           const std::string& tokenizer_fingerprint,
                                           int64_t vocab_size, uint64_t* session) {
  absl::Status status = CheckVerifierId(verifier_id);
  status.Update(CheckModel(model_id, tokenizer_fingerprint, vocab_size));
  status.Update(CheckFingerprint(tokenizer_fingerprint));
  if (!status.ok()) return status;
  auto opened = std::make_shared<Session>(model_id, tokenizer_fingerprint, vocab_size);
  absl::MutexLock lock(&mutex_);
  if (sessions_.size() >= options_.limits.max_sessions) {
    return absl::ResourceExhaustedError(absl::StrCat(sessions_.size(),
                                                     " sessions are open, at most ",
                                                     options_.limits.max_sessions, " are allowed"));
  }
  *session = next_session_++;
  sessions_.emplace(*session, std::move(opened));
  return absl::OkStatus();
}

void HierarchyDrafter::CloseSession(uint64_t session) {
  std::shared_ptr<Session> closed;
  {
    absl::MutexLock lock(&mutex_);
    const auto it = sessions_.find(session);
    if (it == sessions_.end()) return;
    closed = std::move(it->second);
    sessions_.erase(it);
  }
  absl::flat_hash_map<uint64_t, std::shared_ptr<Slot>> slots;
  {
    absl::MutexLock lock(&closed->mutex);
    closed->closed = true;
    slots.swap(closed->slots);
  }
  TakeLessons(*closed);
  for (const auto& [id, slot] : slots) {
    if (const auto sequence = Retire(*slot); sequence != nullptr) sequence->Finish();
  }
  TeachEvicted();
  trees_.SaveCalibrations(kNewsWorthSaving);
}

std::shared_ptr<Session> HierarchyDrafter::FindSession(uint64_t session) const {
  absl::ReaderMutexLock lock(&mutex_);
  const auto it = sessions_.find(session);
  return it == sessions_.end() ? nullptr : it->second;
}

void HierarchyDrafter::Learn(uint64_t session) {
  if (const auto open = FindSession(session); open != nullptr) TakeLessons(*open);
}

void HierarchyDrafter::TakeLessons(Session& session) {
  std::vector<Lesson> lessons;
  {
    absl::MutexLock lock(&session.mutex);
    lessons.swap(session.lessons);
  }
  // So that a Draft before which all was learned does not teach what another session's evicted.
  if (lessons.empty()) return;
  std::vector<Observation*> observations;
  absl::Time deadline = absl::InfinitePast();
  for (Lesson& lesson : lessons) {
    if (lesson.observation.tokens.empty()) continue;
    observations.push_back(&lesson.observation);
    deadline = std::max(deadline, lesson.deadline);
  }
  trees_.ObserveCorpus(observations, deadline);
  for (Lesson& lesson : lessons) {
    trees_.Learn(lesson.key, lesson.observation, session.vocab_size);
    if (!lesson.rankings.empty()) {
      options_.model_store->LearnRankings(lesson.key, lesson.rankings);
    }
    if (lesson.ended != nullptr) lesson.ended->Finish();
    if (lesson.slot == nullptr) continue;
    absl::MutexLock lock(&lesson.slot->mutex);
    // Null if it has ended since: that teaches all.
    if (lesson.slot->sequence != nullptr) lesson.slot->sequence->Teach();
  }
  TeachEvicted();
  trees_.DropExcessCalibrations();
}

void HierarchyDrafter::TeachEvicted() {
  std::vector<std::unique_ptr<Sequence>> evicted;
  {
    absl::MutexLock lock(&evicted_mutex_);
    evicted.swap(evicted_);
  }
  for (const auto& sequence : evicted) sequence->Finish();
}

void HierarchyDrafter::Draft(uint64_t session, std::span<const SequenceUpdate> updates,
                             absl::Time deadline, std::vector<SequenceAnswer>& answers) {
  answers.clear();
  answers.resize(updates.size());
  const std::shared_ptr<Session> open = FindSession(session);
  if (open != nullptr) TakeLessons(*open);
  std::vector<Pending> pending;
  absl::flat_hash_set<uint64_t> ids;
  for (size_t i = 0; i < updates.size(); ++i) {
    SequenceAnswer& answer = answers[i];
    answer = AnswerTo(updates[i]);
    if (open == nullptr) {
      Fail(answer, SequenceStatus::kInvalid, "the session is not open");
    } else if (updates.size() > options_.limits.max_batch) {
      Fail(answer, SequenceStatus::kInvalid,
           absl::StrCat("the batch has ", updates.size(), " sequences, at most ",
                        options_.limits.max_batch, " are allowed"));
    } else {
      // A sequence that comes twice is drafted for in between.
      if (updates.size() > 1 && !ids.insert(updates[i].sequence_id).second) {
        DraftPending(open->vocab_size, deadline, TreeUse::kAnswer, pending);
        ids = {updates[i].sequence_id};
      }
      if (auto slot = Apply(*open, updates[i], deadline, answer); slot != nullptr) {
        pending.push_back({std::move(slot), &updates[i], &answer});
      }
    }
  }
  if (!pending.empty()) {
    DraftPending(open->vocab_size, deadline, TreeUse::kAnswer, pending);
  }
  CountAnswers(answers);
}

void HierarchyDrafter::DraftAhead(uint64_t session, std::span<const SequenceUpdate> updates,
                                  absl::Time deadline, std::vector<SequenceAnswer>& answers) {
  answers.clear();
  const std::shared_ptr<Session> open = FindSession(session);
  if (open == nullptr || updates.size() > options_.limits.max_batch) return;
  // Room for all, so that none moves.
  answers.reserve(updates.size());
  std::vector<Pending> pending;
  // Of a sequence that comes twice.
  absl::flat_hash_map<uint64_t, const SequenceUpdate*> last;
  for (const SequenceUpdate& update : updates) last[update.sequence_id] = &update;
  for (const SequenceUpdate& update : updates) {
    if (update.ahead_nodes == 0 || update.close || last[update.sequence_id] != &update) continue;
    std::shared_ptr<Slot> slot = FindSlot(*open, update.sequence_id);
    if (slot == nullptr) continue;
    answers.push_back(AnswerTo(update));
    pending.push_back({std::move(slot), &update, &answers.back()});
  }
  DraftPending(open->vocab_size, deadline, TreeUse::kAhead, pending);
  std::erase_if(answers, [](const SequenceAnswer& answer) { return answer.tree.empty(); });
}

void HierarchyDrafter::CountAnswers(std::span<const SequenceAnswer> answers) {
  // Added up first: the counters are shared by all sessions' threads.
  std::array<uint64_t, kTierKinds> nodes{};
  std::array<uint64_t, kSequenceStatuses> statuses{};
  for (const SequenceAnswer& answer : answers) {
    ++statuses[static_cast<size_t>(answer.status)];
    for (const TierKind tier : answer.tree.tiers) ++nodes[static_cast<size_t>(tier)];
  }
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i] > 0) drafted_nodes_[i].fetch_add(nodes[i], std::memory_order_relaxed);
  }
  for (size_t i = 0; i < statuses.size(); ++i) {
    if (statuses[i] > 0) answers_[i].fetch_add(statuses[i], std::memory_order_relaxed);
  }
}

std::shared_ptr<Slot> HierarchyDrafter::Apply(Session& session, const SequenceUpdate& update,
                                              absl::Time deadline, SequenceAnswer& answer) {
  if (absl::Status status =
          CheckUpdate(update, session.vocab_size, options_.limits.max_predicted_tokens);
      !status.ok()) {
    Fail(answer, SequenceStatus::kInvalid, std::string(status.message()));
    return nullptr;
  }
  const uint64_t length = uint64_t{update.position} + update.tokens.size();
  if (length > options_.limits.max_sequence_tokens) {
    Fail(answer, SequenceStatus::kExhausted,
         absl::StrCat("the sequence would have ", length, " tokens, at most ",
                      options_.limits.max_sequence_tokens, " are allowed"));
    return nullptr;
  }
  std::shared_ptr<Slot> slot = update.position == 0
                                   ? StartSequence(session, update, answer)
                                   : ContinueSequence(session, update, deadline, answer);
  if (slot != nullptr && update.close) {
    Lesson lesson;
    lesson.ended = Remove(session, update.sequence_id, slot);
    absl::MutexLock lock(&session.mutex);
    session.lessons.push_back(std::move(lesson));
    return nullptr;
  }
  return slot;
}

// The analysis cannot follow a set of locks.
void HierarchyDrafter::DraftPending(int64_t vocab_size, absl::Time deadline, TreeUse use,
                                    std::vector<Pending>& pending) ABSL_NO_THREAD_SAFETY_ANALYSIS {
  // All batches lock in this order, whatever sequences a client puts into them.
  std::sort(pending.begin(), pending.end(),
            [](const Pending& a, const Pending& b) { return a.slot.get() < b.slot.get(); });
  for (const Pending& one : pending) one.slot->mutex.Lock();
  std::vector<TreeRequest> requests;
  requests.reserve(pending.size());
  for (const Pending& one : pending) {
    // Null if evicted since: what was applied is lost, and the next message finds out.
    const Sequence* sequence = one.slot->sequence.get();
    const uint32_t nodes =
        use == TreeUse::kAnswer ? one.update->node_budget : one.update->ahead_nodes;
    if (sequence == nullptr || nodes == 0) continue;
    // Not so where an update was refused, which DraftAhead does not know.
    if (sequence->epoch() != one.answer->epoch ||
        sequence->tokens().size() != one.answer->position) {
      continue;
    }
    requests.push_back(RequestFor(*one.update, *sequence, vocab_size, nodes));
    requests.back().tree = &one.answer->tree;
  }
  trees_.Draft(requests, deadline);
  for (const Pending& one : pending) {
    if (use == TreeUse::kAnswer && one.slot->sequence != nullptr) {
      one.slot->sequence->set_last_tree(one.answer->tree);
    }
    one.slot->mutex.Unlock();
  }
  pending.clear();
}

TreeRequest HierarchyDrafter::RequestFor(const SequenceUpdate& update, const Sequence& sequence,
                                         int64_t vocab_size, uint32_t nodes) const {
  TreeRequest request;
  request.predicted = sequence.predicted();
  if (options_.use_context) request.context_tier = &sequence.context();
  request.key = &sequence.model_key();
  request.context = sequence.tokens();
  request.policy = update.policy;
  request.limits.node_budget = std::min(nodes, options_.limits.max_nodes);
  request.limits.max_depth = update.max_depth;
  request.limits.vocab_size = vocab_size;
  return request;
}

std::shared_ptr<Slot> HierarchyDrafter::StartSequence(Session& session,
                                                      const SequenceUpdate& update,
                                                      SequenceAnswer& answer) {
  std::shared_ptr<Slot> replaced;
  {
    absl::MutexLock lock(&session.mutex);
    const auto it = session.slots.find(update.sequence_id);
    if (it != session.slots.end()) {
      replaced = std::move(it->second);
      session.slots.erase(it);
    }
  }
  // Its last tokens may be what the verifier rewound: not taught.
  if (replaced != nullptr) Retire(*replaced);
  if (update.tokens.empty()) return nullptr;

  const size_t tokens = update.tokens.size() + update.predicted_tokens.size();
  if (!Reserve(1, tokens, answer)) return nullptr;
  auto slot = std::make_shared<Slot>();
  slot->last_used = absl::ToUnixNanos(SteadyNow());
  Lesson lesson;
  {
    absl::MutexLock lock(&slot->mutex);
    slot->reserved_tokens = tokens;
    slot->sequence = std::make_unique<Sequence>(
        update.epoch, ModelKey{session.model_id, session.tokenizer_fingerprint, update.tenant},
        update.tokens.first(update.prompt_length), update.predicted_tokens,
        options_.model_store.get());
    slot->sequence->Append(update.tokens);
    lesson = LessonOf(update, slot, *slot->sequence);
  }
  bool added = false;
  {
    absl::MutexLock lock(&session.mutex);
    // A call for the same sequence that overlaps breaks the contract; it loses.
    if (!session.closed) added = session.slots.emplace(update.sequence_id, slot).second;
    // It may come with output: that of a verifier that changed its draft service.
    if (added) session.lessons.push_back(std::move(lesson));
  }
  if (added) return slot;
  Retire(*slot);
  Fail(answer, SequenceStatus::kUnknown, "");
  return nullptr;
}

std::shared_ptr<Slot> HierarchyDrafter::ContinueSequence(Session& session,
                                                         const SequenceUpdate& update,
                                                         absl::Time deadline,
                                                         SequenceAnswer& answer) {
  std::shared_ptr<Slot> slot = FindSlot(session, update.sequence_id);
  if (slot == nullptr) {
    Fail(answer, SequenceStatus::kUnknown, "");
    return nullptr;
  }
  // First, so that making room does not evict the sequence that the room is for.
  slot->last_used = absl::ToUnixNanos(SteadyNow());
  if (!Reserve(0, update.tokens.size(), answer)) return nullptr;
  bool applied = false;
  bool other_epoch = false;
  Lesson lesson;
  {
    absl::MutexLock lock(&slot->mutex);
    Sequence* sequence = slot->sequence.get();
    if (sequence != nullptr && sequence->epoch() == update.epoch &&
        sequence->tokens().size() == update.position) {
      applied = ApplyFeedback(update, *sequence, answer);
      if (applied) {
        slot->reserved_tokens += update.tokens.size();
        // Before the context tier holds them. A verifier that wants no drafts need not wait for
        // this either.
        Observation observation;
        if (update.has_feedback || update.node_budget > 0 || update.ahead_nodes > 0) {
          observation =
              trees_.Observe(RequestFor(update, *sequence, session.vocab_size, update.node_budget),
                             update.tokens, deadline);
        }
        sequence->Append(update.tokens);
        lesson = LessonOf(update, slot, *sequence);
        lesson.observation = std::move(observation);
        lesson.deadline = deadline;
      }
    } else {
      Fail(answer, SequenceStatus::kUnknown, "");
      other_epoch = sequence != nullptr && sequence->epoch() != update.epoch;
    }
  }
  if (applied) {
    absl::MutexLock lock(&session.mutex);
    session.lessons.push_back(std::move(lesson));
    return slot;
  }
  Release(0, update.tokens.size());
  if (other_epoch) Remove(session, update.sequence_id, slot);
  return nullptr;
}

Lesson HierarchyDrafter::LessonOf(const SequenceUpdate& update, const std::shared_ptr<Slot>& slot,
                                  const Sequence& sequence) const {
  Lesson lesson;
  lesson.key = sequence.model_key();
  if (options_.model_store == nullptr) return lesson;
  lesson.rankings.assign(update.rankings.begin(), update.rankings.end());
  if (sequence.has_to_teach()) lesson.slot = slot;
  return lesson;
}

bool HierarchyDrafter::ApplyFeedback(const SequenceUpdate& update, const Sequence& sequence,
                                     SequenceAnswer& answer) {
  if (!update.has_feedback) return true;
  std::vector<TierKind> accepted;
  if (!sequence.AcceptedTiers(update.accepted_nodes, accepted)) {
    Fail(answer, SequenceStatus::kInvalid,
         "accepted_nodes are not a path from the root of the last tree sent for this sequence");
    return false;
  }
  for (const TierKind tier : sequence.last_tiers()) ++judged_nodes_[static_cast<size_t>(tier)];
  for (const TierKind tier : accepted) ++accepted_nodes_[static_cast<size_t>(tier)];
  return true;
}

absl::Status HierarchyDrafter::DraftOnce(const OnceRequest& once, DraftTree& tree) {
  tree.Clear();
  absl::Status status = CheckModel(once.model_id, once.tokenizer_fingerprint, once.vocab_size);
  status.Update(CheckFingerprint(once.tokenizer_fingerprint));
  status.Update(CheckPolicy("policy", once.policy));
  status.Update(CheckTenant(once.tenant));
  if (!status.ok()) return status;
  if (once.context.empty()) return absl::InvalidArgumentError("there are no tokens to draft after");
  if (once.context.size() > options_.limits.max_sequence_tokens ||
      once.predicted_tokens.size() > options_.limits.max_predicted_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "there are ", once.context.size(), " tokens and ", once.predicted_tokens.size(),
        " predicted_tokens, at most ", options_.limits.max_sequence_tokens, " and ",
        options_.limits.max_predicted_tokens, " are allowed"));
  }
  status.Update(CheckTokens("tokens", once.context, once.vocab_size));
  status.Update(CheckTokens("predicted_tokens", once.predicted_tokens, once.vocab_size));
  if (!status.ok()) return status;

  // The index over them counts like that of a live sequence.
  const size_t tokens = once.context.size() + once.predicted_tokens.size();
  SequenceAnswer full;
  if (!Reserve(0, tokens, full)) return absl::ResourceExhaustedError(full.message);
  ContextTier context_tier;
  context_tier.Append(once.context);
  // Where the output begins is not known here, so the predicted text is matched, never started.
  const PredictedTier predicted_tier(/*prompt=*/{}, once.predicted_tokens);
  const ModelKey key = {once.model_id, once.tokenizer_fingerprint, once.tenant};
  TreeRequest request;
  request.predicted = &predicted_tier;
  if (options_.use_context) request.context_tier = &context_tier;
  request.key = &key;
  request.context = once.context;
  request.policy = once.policy;
  request.limits.node_budget = std::min(once.node_budget, options_.limits.max_nodes);
  request.limits.max_depth = once.max_depth;
  request.limits.vocab_size = once.vocab_size;
  request.tree = &tree;
  request.stateless = true;
  trees_.Draft({&request, 1}, once.deadline);
  Release(0, tokens);
  return absl::OkStatus();
}

std::unique_ptr<Sequence> HierarchyDrafter::Remove(Session& session, uint64_t sequence_id,
                                                   const std::shared_ptr<Slot>& slot) {
  {
    absl::MutexLock lock(&session.mutex);
    const auto it = session.slots.find(sequence_id);
    if (it != session.slots.end() && it->second == slot) session.slots.erase(it);
  }
  return Retire(*slot);
}

std::unique_ptr<Sequence> HierarchyDrafter::Retire(Slot& slot) {
  std::unique_ptr<Sequence> sequence;
  size_t tokens = 0;
  {
    absl::MutexLock lock(&slot.mutex);
    sequence = std::move(slot.sequence);
    tokens = std::exchange(slot.reserved_tokens, 0);
  }
  if (sequence != nullptr) Release(1, tokens);
  return sequence;
}

bool HierarchyDrafter::TryReserve(size_t sequences, size_t tokens) {
  absl::MutexLock lock(&live_mutex_);
  if (live_sequences_ + sequences > options_.limits.max_sequences ||
      live_tokens_ + tokens > options_.limits.max_live_tokens) {
    return false;
  }
  live_sequences_ += sequences;
  live_tokens_ += tokens;
  return true;
}

bool HierarchyDrafter::Reserve(size_t sequences, size_t tokens, SequenceAnswer& answer) {
  if (TryReserve(sequences, tokens)) return true;
  EvictIdle();
  if (TryReserve(sequences, tokens)) return true;
  absl::MutexLock lock(&live_mutex_);
  Fail(answer, SequenceStatus::kExhausted,
       absl::StrCat("the service holds ", live_sequences_, " sequences of ", live_tokens_,
                    " tokens in all, at most ", options_.limits.max_sequences, " of ",
                    options_.limits.max_live_tokens, " are allowed; ", tokens, " more do not fit"));
  return false;
}

void HierarchyDrafter::Release(size_t sequences, size_t tokens) {
  absl::MutexLock lock(&live_mutex_);
  live_sequences_ -= sequences;
  live_tokens_ -= tokens;
}

std::vector<std::shared_ptr<Session>> HierarchyDrafter::Sessions() const {
  absl::ReaderMutexLock lock(&mutex_);
  std::vector<std::shared_ptr<Session>> sessions;
  sessions.reserve(sessions_.size());
  for (const auto& [id, session] : sessions_) sessions.push_back(session);
  return sessions;
}

void HierarchyDrafter::EvictIdle() {
  const int64_t newest_idle = absl::ToUnixNanos(SteadyNow() - options_.limits.idle_before_eviction);
  std::vector<std::shared_ptr<Slot>> idle;
  for (const auto& session : Sessions()) {
    absl::MutexLock lock(&session->mutex);
    absl::erase_if(session->slots, [&](const auto& entry) {
      if (entry.second->last_used > newest_idle) return false;
      idle.push_back(entry.second);
      return true;
    });
  }
  std::vector<std::unique_ptr<Sequence>> evicted;
  for (const auto& slot : idle) {
    if (auto sequence = Retire(*slot); sequence != nullptr) evicted.push_back(std::move(sequence));
  }
  absl::MutexLock lock(&evicted_mutex_);
  std::move(evicted.begin(), evicted.end(), std::back_inserter(evicted_));
}

DrafterStats HierarchyDrafter::Stats() const {
  DrafterStats stats;
  {
    absl::MutexLock lock(&live_mutex_);
    stats.live_sequences = live_sequences_;
    stats.live_tokens = live_tokens_;
  }
  stats.model_tier_bytes = options_.model_store == nullptr ? 0 : options_.model_store->bytes();
  if (options_.corpus_info) {
    CorpusInfo info = options_.corpus_info();
    stats.corpus_tokens = info.tokens;
    stats.snapshot = std::move(info.snapshot);
  }
  for (int i = 0; i < kTierKinds; ++i) {
    stats.judged_nodes[i] = judged_nodes_[i];
    stats.accepted_nodes[i] = accepted_nodes_[i];
    stats.drafted_nodes[i] = drafted_nodes_[i];
  }
  for (int i = 0; i < kSequenceStatuses; ++i) stats.answers[i] = answers_[i];
  return stats;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Drafter>> NewDrafter(DrafterOptions options) {
  absl::Status status = ValidateLocalityOptions(options.policy.locality);
  status.Update(ValidateCalibratedOptions(options.policy.calibrated));
  status.Update(CheckPolicyOptions(options.policy));
  status.Update(CheckLimits(options.limits));
  if (!status.ok()) return status;
  if (options.corpus != nullptr && options.tokenizer_fingerprint.empty()) {
    return absl::InvalidArgumentError("a corpus needs the fingerprint of its tokenizer");
  }
  return std::make_unique<HierarchyDrafter>(std::move(options));
}

}  // namespace strata::draft
