// What a training job with model.pretrained begins with.
//
// Structure:   with a density (or distribution, or epsilon) the largest weights of each tensor, in
//              that number; without one what a checkpoint stores, or of a folder in Hugging Face's
//              layout what is not zero.
// Memory:      one dense tensor at a time beside the result.
// Threading:   pure functions of the spec and the files.
// Determinism: equal files give equal models.
// Errors:      those of OpenDenseSource(); FailedPrecondition DENSITY_ABOVE_MODEL where the model
//              has fewer weights than are asked for, DENSE_MODEL where it has no zeros to keep.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "espalier/v1/job.pb.h"
#include "server/methods/structure.h"
#include "server/pretrained/model_library.h"

namespace espalier::server::methods {

// Whether the job keeps the zeros of the model that it begins with.
bool KeepsZeros(const v1::JobSpec& spec);

// What the trained model stores of each tensor: null where that is all of it, or where a folder's
// tensor has at most a hundredth of zeros, which rounding makes. Errors: FailedPrecondition
// SPARSE_CHECKPOINT where a checkpoint is sparse in a tensor that the job's model has dense.
absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> StoredStructure(
    const v1::JobSpec& spec, const tensor::ModelLayout& layout,
    const pretrained::ModelLibrary* library);

// The structure that a method which is sparse from the start begins with: random where there is no
// trained model.
absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> StartStructure(
    const v1::JobSpec& spec, const tensor::ModelLayout& layout, const Budget& budget,
    const pretrained::ModelLibrary* library);

// The trained model's values in this structure.
absl::StatusOr<std::vector<float>> TrainedValues(const v1::JobSpec& spec,
                                                 const tensor::ModelTopology& topology,
                                                 const pretrained::ModelLibrary* library);

// MethodDeclaration::stored_counts of a method that begins with StartStructure(). Where the zeros
// of a folder's model are kept, its tensors count as a whole.
absl::StatusOr<std::vector<int64_t>> StartCounts(const v1::JobSpec& spec,
                                                 const config::Parameters& parameters,
                                                 const pretrained::ModelLibrary* library);

// Tokenizer and other files of the trained model; null where there are none.
absl::StatusOr<std::shared_ptr<const pretrained::Companions>> CompanionsOf(
    const v1::ModelSpec& spec, const pretrained::ModelLibrary* library);

}  // namespace espalier::server::methods
