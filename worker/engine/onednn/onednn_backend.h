// The production backend: oneDNN for dense products, and for sparse products whichever of oneDNN's
// CSR matmul and the hand-written kernels was measured to be faster (worker/engine/README.md).
#pragma once

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "worker/engine/backend.h"

namespace espalier::worker::engine {

// Errors: Internal (ONEDNN) when the library refuses to start.
absl::StatusOr<std::unique_ptr<Backend>> MakeOneDnnBackend(int threads);

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
