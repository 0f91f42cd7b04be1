// Whether a checkpoint can be what a training job begins with.
//
// Threading:   pure functions.
// Errors:      FailedPrecondition: OTHER_NETWORK names the first tensor that differs, and its shape
//              on both sides; SPARSE_CHECKPOINT for one that stores only a part of some tensor.
#pragma once

#include "absl/status/status.h"
#include "common/tensor/model.h"
#include "server/checkpoint/checkpoint_file.h"

namespace espalier::server::pretrained {

// OK when `found` is dense and has the tensors of `expected`, with their shapes and in their order.
// Which of them may be pruned is not compared.
absl::Status CheckDenseNetwork(const tensor::ModelLayout& expected,
                               const checkpoint::CheckpointReader& found);

}  // namespace espalier::server::pretrained
