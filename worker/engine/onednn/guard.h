// Where calls of oneDNN can fail, and to whom it is told; onednn_backend.h has what is public.
//
// Threading: any thread.
#pragma once

#include <new>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>

#include "absl/status/status.h"
#include "common/base/status.h"
#include "worker/engine/onednn/onednn_backend.h"

namespace espalier::worker::engine::onednn {

// Whether a test wants this call to fail, see FailOneDnnFrom().
bool FailsForTest(OneDnnStep step);
// Tells the observer, see ObserveOneDnnFailures().
void Report(const absl::Status& failure);

// Runs `body`, the only place where oneDNN's exceptions are caught. Too little memory is
// std::bad_alloc, as everywhere in the engine.
template <typename Body>
absl::Status Guard(OneDnnStep step, const char* what, const Body& body) {
  try {
    if (FailsForTest(step)) throw dnnl::error(dnnl_unimplemented, "a fault was asked for");
    body();
    return absl::OkStatus();
  } catch (const dnnl::error& error) {
    if (error.status == dnnl_out_of_memory) throw std::bad_alloc();
    return base::MakeError(absl::StatusCode::kInternal, "ONEDNN",
                           std::string("oneDNN failed to ") + what + ": " + error.what());
  }
}

}  // namespace espalier::worker::engine::onednn
