// Rows of a matrix on several threads.
//
// Determinism: each row is worked on alone; the result does not depend on `threads`.
// Errors:      what `work` throws, on whichever thread, reaches the caller once all are done.
#pragma once

#include <cstdint>
#include <functional>

namespace espalier::sparsity {

// Calls work(begin, end) for stretches that cover 0 … rows − 1 once, on up to `threads` threads.
void ParallelRows(int64_t rows, int threads, const std::function<void(int64_t, int64_t)>& work);

}  // namespace espalier::sparsity
