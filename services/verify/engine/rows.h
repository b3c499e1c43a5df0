#ifndef STRATA_SERVICES_VERIFY_ENGINE_ROWS_H_
#define STRATA_SERVICES_VERIFY_ENGINE_ROWS_H_

#include <cstdint>
#include <span>

// What a model is told of the rows of a packed batch, whatever device it runs on.
namespace strata::engine {

// A row of a packed batch.
struct ModelRow {
  int32_t token = 0;
  int64_t position = 0;
  int32_t page = 0;  // where its keys and values go
  int32_t slot = 0;  // within the page
};

// Where one row's keys are.
struct AttentionRow {
  int64_t row = 0;       // row of q and out
  int64_t position = 0;  // attends to position + 1 keys
  // Position i < direct lies in pages[i / kPageTokens], slot i % kPageTokens.
  int64_t direct = 0;
  std::span<const int32_t> pages;
  // Slot (KvSlot) of position direct + i.
  std::span<const int32_t> scattered;
};

// A token's keys and values that are to be copied from one slot (KvSlot) to another.
struct KvMove {
  int32_t from = 0;
  int32_t to = 0;
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_ROWS_H_
