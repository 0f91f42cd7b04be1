// What model.pretrained of a new job stands for.
#pragma once

#include <vector>

#include "common/config/parameters.h"
#include "espalier/v1/model.pb.h"
#include "server/checkpoint/checkpoint_store.h"

namespace espalier::server::jobs {

// Puts the newest checkpoint of a job in the place of "jobs/{job}", and the layers of a checkpoint
// in `model` where it has none of its own; a method that trains (not `prunes`) may repeat them.
// Leaves names of folders under --models as they are. Reads the checkpoint's header alone, and
// computes nothing from the model, which need not be valid.
void ResolvePretrained(const checkpoint::CheckpointStore& checkpoints, bool prunes,
                       v1::ModelSpec& model, std::vector<config::Violation>& violations);

// Appends a violation when a valid model that begins with a checkpoint is another network than the
// one in it. For methods that train. Reads the checkpoint's header alone.
void CheckPretrainedNetwork(const checkpoint::CheckpointStore& checkpoints,
                            const v1::ModelSpec& model, std::vector<config::Violation>& violations);

}  // namespace espalier::server::jobs
