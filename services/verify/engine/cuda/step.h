#ifndef STRATA_SERVICES_VERIFY_ENGINE_CUDA_STEP_H_
#define STRATA_SERVICES_VERIFY_ENGINE_CUDA_STEP_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "services/verify/engine/bf16.h"
#include "services/verify/engine/rows.h"

// What the kernels of a step are told of its rows: one block of memory, copied to the device at
// once. Captured kernels hold its address and nothing that changes from step to step.
namespace strata::engine::cuda {

// Most rows of a step; a longer pass is several steps, one after the other. Rows attend only to
// rows before them, whose keys and values are then in the cache, so this changes no bit.
inline constexpr int64_t kStepRows = 512;

struct StepRow {
  int32_t token = 0;
  int32_t position = 0;
  int32_t slot = 0;  // KvSlot of its own keys and values
  // As in AttentionRow; the lists begin at these places of StepLists.
  int32_t direct = 0;
  int32_t pages = 0;
  int32_t scattered = 0;
};

// Rows that follow each other and have the same pages.
struct RowGroup {
  int32_t first = 0;
  int32_t count = 0;
};

struct StepInput {
  int32_t rows = 0;
  int32_t groups = 0;
  int32_t unused[2] = {};
  StepRow row[kStepRows];
  // Indices of rows.
  int32_t logit_rows[kStepRows];
  // All rows, in their order.
  RowGroup group[kStepRows];
};
static_assert(sizeof(StepInput) % 16 == 0);

// Pages and scattered slots of all rows lie behind the rest.
STRATA_HOST_DEVICE const int32_t* StepLists(const StepInput* step) {
  return reinterpret_cast<const int32_t*>(step + 1);
}

// One step's share of a pass. rows, attention: at most kStepRows, of the same size; logit_rows are
// indices of the whole pass's rows, of which this step has those from `first_row` on.
struct StepRows {
  std::span<const ModelRow> rows;
  std::span<const AttentionRow> attention;
  std::span<const int32_t> logit_rows;
  int64_t first_row = 0;
};

// A pass as steps, in their order. As for Model::Forward: logit_rows ascend.
std::vector<StepRows> SplitIntoSteps(std::span<const ModelRow> rows,
                                     std::span<const AttentionRow> attention,
                                     std::span<const int32_t> logit_rows);

// Bytes of the step's StepInput with its lists.
int64_t StepBytes(const StepRows& rows);
// How many blocks the kernels of a step are started with: as many as it has rows, and groups, or
// more, which do nothing.
struct StepGrid {
  int64_t rows = 0;
  int64_t groups = 0;
};

// Writes them to `to`, which has StepBytes(rows) and is aligned to 16. No group has more than
// group_rows rows. Returns how many rows and groups there are.
StepGrid PackStep(const StepRows& rows, int group_rows, std::byte* to);

}  // namespace strata::engine::cuda

#endif  // STRATA_SERVICES_VERIFY_ENGINE_CUDA_STEP_H_
