// Whether a checkpoint can be what a training job begins with.
//
// Threading:   pure functions.
// Errors:      FailedPrecondition: OTHER_NETWORK names the first tensor that differs, and its shape
//              on both sides; SPARSE_CHECKPOINT for one that stores only a part of some tensor.
// Which of the tensors may be pruned is not compared.
#pragma once

#include "absl/status/status.h"
#include "common/checkpoint/checkpoint_file.h"
#include "common/language/checkpoint_reader.h"
#include "common/tensor/model.h"
#include "espalier/v1/model.pb.h"

namespace espalier::server::pretrained {

// OK when `found` has the tensors of `expected`, with their shapes and in their order.
absl::Status CheckNetwork(const tensor::ModelLayout& expected,
                          const espalier::checkpoint::CheckpointReader& found);
// The same, and that it is dense.
absl::Status CheckDenseNetwork(const tensor::ModelLayout& expected,
                               const espalier::checkpoint::CheckpointReader& found);

// The same of a language model, whose zeros may be stored all the same.
absl::Status CheckLanguageModel(const v1::TransformerSpec& expected,
                                const language::CheckpointReader& found);
absl::Status CheckDenseLanguageModel(const v1::TransformerSpec& expected,
                                     const language::CheckpointReader& found);

}  // namespace espalier::server::pretrained
