// The naive backend: one thread, plain loops, the same results everywhere.
#pragma once

#include <memory>

#include "worker/engine/backend.h"

namespace espalier::worker::engine {

std::unique_ptr<Backend> MakeReferenceBackend();

}  // namespace espalier::worker::engine
