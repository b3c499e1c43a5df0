#include "services/draft/corpus/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "absl/time/clock.h"

namespace strata::draft {
namespace {

constexpr int kCells = 40;

}  // namespace

ProgressBar::ProgressBar() : on_terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (on_terminal_ && !phase_.empty()) std::fputc('\n', stderr);
}

void ProgressBar::Show(const std::string& phase, double share) {
  if (!on_terminal_) return;
  share = std::clamp(share, 0.0, 1.0);
  const absl::Time now = absl::Now();
  if (phase != phase_) {
    if (!phase_.empty()) {
      Draw(1.0);
      std::fputc('\n', stderr);
    }
    phase_ = phase;
    started_ = now;
  } else if (share_ >= 1.0 || (now - drawn_ < absl::Milliseconds(100) && share < 1.0)) {
    return;
  }
  drawn_ = now;
  Draw(share);
}

void ProgressBar::Draw(double share) {
  share_ = share;
  std::string bar(kCells, ' ');
  std::fill_n(bar.begin(), static_cast<int>(share * kCells), '#');
  const double elapsed = absl::ToDoubleSeconds(absl::Now() - started_);
  std::fprintf(stderr, "\r%-9s [%s] %3d %%  %.0f s ", phase_.c_str(), bar.c_str(),
               static_cast<int>(share * 100), elapsed);
  std::fflush(stderr);
}

void ProgressBar::Clear() {
  if (on_terminal_ && !phase_.empty()) std::fputs("\r\x1b[K", stderr);
  phase_.clear();
}

}  // namespace strata::draft
