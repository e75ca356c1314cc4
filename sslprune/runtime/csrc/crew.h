// Threads that wait without spinning. Whoever has work takes part in it, and never depends on help: a busy neighbour
// on a core makes it slower, not stuck, and so does a fork, which leaves the child without helpers.
#pragma once

#include <cstdint>
#include <functional>

namespace sslprune {

// Runs task(0) ... task(parts - 1), each once, on the caller and at most `threads - 1` helpers; returns when all are
// done. May be called by several threads at once, not from within a task.
void run_parts(int64_t parts, int threads, const std::function<void(int64_t)>& task);

}  // namespace sslprune
