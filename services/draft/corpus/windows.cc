#include "services/draft/corpus/windows.h"

#include <utility>

namespace strata::draft {

absl::Status MergeWindows(const std::vector<std::unique_ptr<WindowCursor>>& cursors,
                          WindowSink sink) {
  // The cursors that have a window, the one with the lowest at the front.
  std::vector<WindowCursor*> heap;
  const auto later = [](const WindowCursor* a, const WindowCursor* b) {
    return WindowBefore(b->window(), a->window());
  };
  for (const auto& cursor : cursors) {
    absl::Status status = cursor->Next();
    if (!status.ok()) return status;
    if (!cursor->done()) heap.push_back(cursor.get());
  }
  std::make_heap(heap.begin(), heap.end(), later);
  std::vector<TokenId> context;
  while (!heap.empty()) {
    Window window = heap.front()->window();
    context.assign(window.context.begin(), window.context.end());
    window.context = context;
    window.count = 0;
    while (!heap.empty() && SameWindow(heap.front()->window(), window)) {
      std::pop_heap(heap.begin(), heap.end(), later);
      WindowCursor* cursor = heap.back();
      window.count += cursor->window().count;
      absl::Status status = cursor->Next();
      if (!status.ok()) return status;
      if (cursor->done()) {
        heap.pop_back();
      } else {
        std::push_heap(heap.begin(), heap.end(), later);
      }
    }
    absl::Status status = sink(window);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace strata::draft
