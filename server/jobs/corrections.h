// The control-variate corrections of a training step, published for its participants to fetch.
//
// Ownership:   a correction can be fetched while its handle is held.
// Memory:      4 bytes per stored weight and participant that has a variate of its own; all others
//              share one blob.
// Threading:   may run on the pool.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>

#include "server/methods/aggregation/server_state.h"
#include "server/round/blob_store.h"
#include "server/round/step_runner.h"

namespace espalier::server::jobs {

// By participant; those whose correction is 0 have none.
using Corrections = std::map<std::string, std::shared_ptr<const round::Blob>>;

Corrections PublishCorrections(const methods::ServerState& state,
                               std::span<const round::ParticipantSpec> participants,
                               const std::shared_ptr<round::Traffic>& traffic,
                               round::BlobStore& blobs);

}  // namespace espalier::server::jobs
