// Splitting work over a fixed number of threads, with bounds that depend on that number only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>

#include "worker/engine/kernels/kernels.h"

namespace espalier::worker::engine {

// Calls body(part) for every part in [0, threads), each on its own OpenMP thread. When bodies
// throw, all others still run, then one of the exceptions goes on to the caller.
template <typename Body>
void ParallelParts(int threads, const Body& body) {
  if (threads == 1) {
    body(0);
    return;
  }
  // An exception that left the region would end the process.
  std::exception_ptr failure;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int part = 0; part < threads; ++part) {
    try {
      body(part);
    } catch (...) {
#pragma omp critical(espalier_parallel_failure)
      failure = std::current_exception();
    }
  }
  if (failure != nullptr) std::rethrow_exception(failure);
}

// Calls body(range) with near-equal consecutive ranges of [0, rows).
template <typename Body>
void ParallelRows(int threads, int64_t rows, const Body& body) {
  ParallelParts(threads, [&](int part) {
    body(RowRange{rows * part / threads, rows * (part + 1) / threads});
  });
}

}  // namespace espalier::worker::engine
