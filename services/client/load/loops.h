#ifndef STRATA_SERVICES_CLIENT_LOAD_LOOPS_H_
#define STRATA_SERVICES_CLIENT_LOAD_LOOPS_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <vector>

#include "services/client/load/record.h"

namespace strata::client::load {

// When a run began.
using Start = std::chrono::steady_clock::time_point;
double SecondsSince(Start start);

// Sends request number `index` and returns when it is done. Called on several threads at once.
using Send = std::function<Outcome(size_t index, Start start)>;
// Whether to send no more.
using Stopped = std::function<bool()>;

// How much is sent: that many requests, or if that is 0, as many as are begun in that time.
struct Extent {
  size_t requests = 0;
  double seconds = 0;
};

// `concurrency` requests at a time, the next one as soon as one is done.
LoadRun RunClosedLoop(int concurrency, const Extent& extent, const Send& send,
                      const Stopped& stopped);

// One request at each of `arrivals` (seconds since the start, ascending), whether or not those
// before it are done.
LoadRun RunOpenLoop(const std::vector<double>& arrivals, const Send& send, const Stopped& stopped);

// The arrivals of a Poisson process.
std::vector<double> MakeArrivals(double rate, const Extent& extent, uint64_t seed);

}  // namespace strata::client::load

#endif  // STRATA_SERVICES_CLIENT_LOAD_LOOPS_H_
