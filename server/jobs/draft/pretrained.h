// What model.pretrained of a new job stands for.
#pragma once

#include <vector>

#include "common/config/parameters.h"
#include "espalier/v1/model.pb.h"
#include "server/checkpoint/checkpoint_store.h"
#include "server/pretrained/model_library.h"

namespace espalier::server::jobs {

// Puts the newest checkpoint of a job in the place of "jobs/{job}". A method that `prunes` has its
// model read block by block later; one that trains gets the model's description in `model`: the
// layers of a checkpoint, the transformer of a language model. It may repeat them. Reads headers of
// files alone, and computes nothing from the model, which need not be valid. `library` may be null:
// then there are no folders of trained models.
void ResolvePretrained(const checkpoint::CheckpointStore& checkpoints,
                       const pretrained::ModelLibrary* library, bool prunes, v1::ModelSpec& model,
                       std::vector<config::Violation>& violations);

// Appends a violation when a valid model that begins with a trained one is another model than that,
// or when that is sparse and must be `dense`. For methods that train. Reads headers of files alone.
void CheckPretrainedModel(const checkpoint::CheckpointStore& checkpoints,
                          const pretrained::ModelLibrary* library, bool dense,
                          const v1::ModelSpec& model, std::vector<config::Violation>& violations);

}  // namespace espalier::server::jobs
