#include "services/verify/engine/cuda/step.h"

#include <algorithm>
#include <new>

#include "services/verify/engine/kv_pages.h"

namespace strata::engine::cuda {
namespace {

// Rows of one sequence follow each other and share its list of pages.
bool SharesPages(std::span<const AttentionRow> rows, size_t i) {
  return i > 0 && rows[i].pages.data() == rows[i - 1].pages.data() &&
         rows[i].pages.size() == rows[i - 1].pages.size();
}

}  // namespace

std::vector<StepRows> SplitIntoSteps(std::span<const ModelRow> rows,
                                     std::span<const AttentionRow> attention,
                                     std::span<const int32_t> logit_rows) {
  std::vector<StepRows> steps;
  size_t logit = 0;
  for (size_t first = 0; first < rows.size(); first += kStepRows) {
    const size_t count = std::min<size_t>(kStepRows, rows.size() - first);
    const size_t begin = logit;
    while (logit < logit_rows.size() && logit_rows[logit] < static_cast<int64_t>(first + count)) {
      ++logit;
    }
    steps.push_back({rows.subspan(first, count), attention.subspan(first, count),
                     logit_rows.subspan(begin, logit - begin), static_cast<int64_t>(first)});
  }
  return steps;
}

int64_t StepBytes(const StepRows& rows) {
  size_t entries = 0;
  for (size_t i = 0; i < rows.attention.size(); ++i) {
    if (!SharesPages(rows.attention, i)) entries += rows.attention[i].pages.size();
    entries += rows.attention[i].scattered.size();
  }
  return static_cast<int64_t>(sizeof(StepInput) + entries * sizeof(int32_t));
}

StepGrid PackStep(const StepRows& rows, int group_rows, std::byte* to) {
  auto* step = new (to) StepInput;
  auto* const lists = reinterpret_cast<int32_t*>(step + 1);
  int32_t* end = lists;
  auto append = [&](std::span<const int32_t> list) {
    const auto at = static_cast<int32_t>(end - lists);
    end = std::copy(list.begin(), list.end(), end);
    return at;
  };
  step->rows = static_cast<int32_t>(rows.rows.size());
  for (size_t i = 0; i < rows.rows.size(); ++i) {
    const ModelRow& from = rows.rows[i];
    const AttentionRow& attention = rows.attention[i];
    StepRow& row = step->row[i];
    row.token = from.token;
    row.position = static_cast<int32_t>(from.position);
    row.slot = KvSlot(from.page, from.slot);
    row.direct = static_cast<int32_t>(attention.direct);
    const bool shares = SharesPages(rows.attention, i);
    row.pages = shares ? step->row[i - 1].pages : append(attention.pages);
    row.scattered = append(attention.scattered);
    if (!shares || step->group[step->groups - 1].count == group_rows) {
      step->group[step->groups++] = {static_cast<int32_t>(i), 0};
    }
    ++step->group[step->groups - 1].count;
  }
  for (size_t i = 0; i < rows.logit_rows.size(); ++i) {
    step->logit_rows[i] = static_cast<int32_t>(rows.logit_rows[i] - rows.first_row);
  }
  return {step->rows, step->groups};
}

}  // namespace strata::engine::cuda
