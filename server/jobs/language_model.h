// What a job does with a language model: parts become blobs, tasks refer to them, and the result
// becomes a checkpoint.
//
// Memory:      parts are mapped files; a checkpoint is written one block at a time.
// Threading:   Publish() and Write…() may run on the pool.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "espalier/v1/worker.pb.h"
#include "server/checkpoint/checkpoint_store.h"
#include "server/methods/pruning/language_model.h"
#include "server/round/blob_store.h"

namespace espalier::server::jobs {

// A model whose parts workers can fetch.
struct PublishedLanguageModel {
  std::shared_ptr<const methods::LanguageModel> model;
  std::vector<std::shared_ptr<const round::Blob>> blobs;  // the outer part, then the blocks
};

// Null for null. Blobs of `previous` are used again where the part is the same.
std::shared_ptr<const PublishedLanguageModel> PublishLanguageModel(
    std::shared_ptr<const methods::LanguageModel> model, const PublishedLanguageModel* previous,
    const std::shared_ptr<round::Traffic>& traffic, round::BlobStore& blobs);

void ReferTo(const PublishedLanguageModel& published, v1::LanguageModelRef& ref);

// In Espalier's sparse form.
absl::StatusOr<checkpoint::CheckpointInfo> WriteLanguageCheckpoint(
    const methods::LanguageModel& model, const checkpoint::CheckpointMetadata& metadata,
    checkpoint::CheckpointStore& checkpoints);

}  // namespace espalier::server::jobs
