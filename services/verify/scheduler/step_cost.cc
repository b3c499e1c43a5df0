#include "services/verify/scheduler/step_cost.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <limits>
#include <memory>
#include <numeric>
#include <set>
#include <utility>

namespace strata::verify {
namespace {

// Up to here every number of rows has its own point: kernels work in blocks, so that one row more
// may cost as much as the next thirty.
constexpr int64_t kExactRows = 64;
// Beyond, points to each doubling, each for the rows up to a multiple of a block.
constexpr int kPointsPerOctave = 8;
// Weight of a new step. `scale` goes first, so that little is left for a point to explain when all
// steps get slower at once.
constexpr double kPointRate = 0.02;
constexpr double kScaleRate = 0.3;
// A step that took longer than this many times its estimate was held up by something else.
constexpr double kOutlier = 3;
constexpr double kNever = std::numeric_limits<double>::infinity();

}  // namespace

size_t StepCost::IndexOf(int64_t rows) {
  if (rows <= kExactRows) return static_cast<size_t>(rows - 1);
  const int octave = std::bit_width(static_cast<uint64_t>(rows - 1)) - 1;
  const int64_t low = int64_t{1} << octave;
  const int64_t part = (rows - 1 - low) * kPointsPerOctave / low;
  const int first = std::bit_width(static_cast<uint64_t>(kExactRows)) - 1;
  return static_cast<size_t>(kExactRows + (octave - first) * kPointsPerOctave + part);
}

double StepCost::Base(double rows) const {
  if (curve_.empty()) return 0;
  if (rows <= curve_.front().first) return curve_.front().second;
  auto above = std::lower_bound(curve_.begin(), curve_.end(), std::pair(rows, 0.0));
  auto below = above - 1;
  if (above == curve_.end()) {
    if (curve_.size() == 1) return curve_.front().second;
    // Neighbours may be steps apart that begin or do not begin another block.
    --above;
    below = std::upper_bound(curve_.begin(), above, std::pair(above->first / 2, kNever));
    if (below != curve_.begin()) --below;
  }
  const double slope = (above->second - below->second) / (above->first - below->first);
  return below->second + slope * (rows - below->first);
}

double StepCost::Estimate(int64_t rows, int64_t pairs) const {
  return scale_ * Base(static_cast<double>(rows)) + pair_seconds_ * static_cast<double>(pairs);
}

void StepCost::Learn(int64_t rows, int64_t pairs, double seconds) {
  if (rows < 1 || !(seconds > 0)) return;
  const size_t index = IndexOf(rows);
  if (points_.size() <= index) points_.resize(index + 1);
  Point& point = points_[index];
  // Attention may be cheaper than was measured; the rest is never free.
  double base = std::max(seconds - pair_seconds_ * static_cast<double>(pairs), seconds / 10);
  if (point.steps > 0) {
    const double expected = scale_ * Base(static_cast<double>(rows));
    base = std::min(base, kOutlier * expected);
    scale_ += kScaleRate * scale_ * (base / expected - 1);
  }
  if (point.steps == 0) {
    point = {rows, base / scale_, 1};
    ++points_known_;
  } else {
    ++point.steps;
    const double rate = std::max(kPointRate, 1.0 / static_cast<double>(point.steps));
    point.seconds += rate * (base / scale_ - point.seconds);
  }
  Rebuild();
}

// Isotonic regression (pool adjacent violators): a point that is high by chance, which nothing may
// correct because steps of that size are then avoided, must not raise the larger ones behind it.
void StepCost::Rebuild() {
  struct Pool {
    double weight = 0;
    double seconds = 0;
    size_t points = 0;
  };
  std::vector<Pool> pools;
  curve_.clear();
  for (const Point& point : points_) {
    if (point.steps == 0) continue;
    curve_.emplace_back(static_cast<double>(point.rows), 0);
    Pool pool = {std::min(static_cast<double>(point.steps), 1 / kPointRate), point.seconds, 1};
    for (; !pools.empty() && pools.back().seconds > pool.seconds; pools.pop_back()) {
      const Pool& below = pools.back();
      const double weight = pool.weight + below.weight;
      pool.seconds = (pool.weight * pool.seconds + below.weight * below.seconds) / weight;
      pool.weight = weight;
      pool.points += below.points;
    }
    pools.push_back(pool);
  }
  auto at = curve_.begin();
  for (const Pool& pool : pools) {
    for (size_t i = 0; i < pool.points; ++i, ++at) at->second = pool.seconds;
  }
}

engine::Status MeasureStepCost(engine::Engine& engine, int64_t max_rows, StepCost& cost) {
  constexpr int kRounds = 3;
  constexpr int64_t kContext = 512;
  // Beyond max_rows, as long as a step takes no longer than this.
  constexpr int64_t kMostRows = 512;
  constexpr double kQuick = 20e-3;
  const engine::EngineInfo& info = engine.info();
  const int64_t room =
      std::min(info.max_sequence_length, engine.kv_pages_free() * int64_t{info.kv_page_tokens});
  max_rows = std::min({max_rows, room, kMostRows});
  engine::ForwardOutput output(engine.host_memory());
  const auto measure = [&](engine::KvSequence& sequence, int64_t rows,
                           double& seconds) -> engine::Status {
    std::vector<int32_t> tokens(static_cast<size_t>(rows));
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = static_cast<int32_t>((i * 7919 + 1) % static_cast<size_t>(info.vocab_size));
    }
    std::vector<int32_t> logit_rows(tokens.size());
    std::iota(logit_rows.begin(), logit_rows.end(), 0);
    const engine::SequenceInput input{&sequence, tokens, {}, logit_rows};
    const auto start = std::chrono::steady_clock::now();
    if (engine::Status status = engine.Forward({&input, 1}, output); !status.ok()) return status;
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    seconds = std::min(seconds, taken.count());
    return engine.Commit(sequence, {});
  };

  const std::unique_ptr<engine::KvSequence> empty = engine.NewSequence();
  // On both sides of where a larger block of rows may begin.
  std::set<int64_t> sizes = {1, max_rows};
  int64_t power = 2;
  for (; power < max_rows; power *= 2) sizes.insert({power, power + 1});
  // The first passes of a process also allocate and wake threads.
  double seconds = kNever;
  for (int i = 0; i < kRounds; ++i) {
    const int64_t rows = std::min<int64_t>(8, max_rows);
    if (engine::Status status = measure(*empty, rows, seconds); !status.ok()) return status;
  }
  for (; power < std::min(room, kMostRows); power *= 2) {
    seconds = kNever;
    // The first pass of a size may set up what the others find.
    for (int i = 0; i < 2 && seconds > kQuick; ++i) {
      if (engine::Status status = measure(*empty, power, seconds); !status.ok()) return status;
    }
    if (seconds > kQuick) break;
    sizes.insert({power, power + 1});
  }
  std::vector<std::pair<int64_t, double>> shortest;
  shortest.reserve(sizes.size());
  for (const int64_t rows : sizes) shortest.emplace_back(rows, kNever);
  // Whatever else the machine does only adds. Not one size's rounds after the other, which a
  // moment's noise would spoil together.
  for (int i = 0; i < kRounds; ++i) {
    for (auto& [rows, least] : shortest) {
      if (engine::Status status = measure(*empty, rows, least); !status.ok()) return status;
    }
  }
  // Nor does a step take longer than one of more rows.
  for (size_t i = shortest.size() - 1; i-- > 0;) {
    shortest[i].second = std::min(shortest[i].second, shortest[i + 1].second);
  }
  for (const auto& [rows, least] : shortest) cost.Learn(rows, 0, least);

  const int64_t context = std::min(kContext, room - 16);
  if (context < 64) return {};
  const std::unique_ptr<engine::KvSequence> filled = engine.NewSequence();
  std::vector<int32_t> tokens(static_cast<size_t>(context), 1);
  std::vector<int32_t> rows(tokens.size());
  std::iota(rows.begin(), rows.end(), 0);
  const engine::SequenceInput input{filled.get(), tokens, {}, {}};
  if (engine::Status status = engine.Forward({&input, 1}, output); !status.ok()) return status;
  if (engine::Status status = engine.Commit(*filled, rows); !status.ok()) return status;
  double without = kNever;
  seconds = kNever;
  for (int i = 0; i < kRounds; ++i) {
    if (engine::Status status = measure(*empty, 8, without); !status.ok()) return status;
    if (engine::Status status = measure(*filled, 8, seconds); !status.ok()) return status;
  }
  cost.set_pair_seconds(std::max(0.0, (seconds - without) / static_cast<double>(8 * context)));
  return {};
}

}  // namespace strata::verify
