// What model.pretrained of a new job stands for.
#pragma once

#include <vector>

#include "common/config/parameters.h"
#include "espalier/v1/model.pb.h"
#include "server/checkpoint/checkpoint_store.h"

namespace espalier::server::jobs {

// Puts the newest checkpoint of a job in the place of "jobs/{job}", and the layers of a checkpoint
// in `model` where it has none of its own; a method that trains (not `prunes`) may repeat them. A
// checkpoint that does not fit is a violation. Leaves names of folders under --models as they are.
// Reads the checkpoint's header alone.
void ResolvePretrained(const checkpoint::CheckpointStore& checkpoints, bool prunes,
                       v1::ModelSpec& model, std::vector<config::Violation>& violations);

}  // namespace espalier::server::jobs
