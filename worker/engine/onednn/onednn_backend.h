// The production backend: oneDNN for dense products, and for sparse products whichever of oneDNN's
// CSR matmul and the hand-written kernels was measured to be faster (worker/engine/README.md).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/engine/backend.h"

namespace espalier::worker::engine {

// A product that the library cannot plan or run is computed by the reference backend, this time and
// from then on, and told to the observer; other products stay with the library.
// Errors: std::bad_alloc when the library has too little memory.
std::unique_ptr<Backend> MakeOneDnnBackend(int threads);

// `observer` gets a sentence about every product that the library fails at. One for the process;
// called on the thread that computes.
void ObserveOneDnnFailures(std::function<void(const std::string& message)> observer);

// For tests: from the `call`-th creation (execution) from now on, counted from 1, all fail; 0:
// none. The environment variable ESPALIER_FAULT_ONEDNN=create:N or execute:N does so from the start
// of the process.
enum class OneDnnStep { kCreate, kExecute };
void FailOneDnnFrom(OneDnnStep step, int64_t call);

// SparseProduct whose Multiply() is oneDNN's CSR matmul; for benchmarks and tests. oneDNN has no
// product for Gradient(), which is the hand-written kernel's. Multiply() ignores `width` and
// computes the whole stride, since the library takes no rows with gaps.
absl::StatusOr<std::unique_ptr<SparseProduct>> MakeOneDnnCsrProduct(
    std::shared_ptr<const tensor::Topology> topology, int64_t stride, int threads);

// Runs one of the library's convolutions on operands of its own in the layout it likes best, for
// benchmarks.
absl::StatusOr<std::function<void()>> MakeOneDnnBlockedConvolution(const ConvProblem& problem,
                                                                   int threads);

}  // namespace espalier::worker::engine
