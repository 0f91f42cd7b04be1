// Boards of all jobs and of all workers, kept up to date by the coordinator's streams of changes
// (events.proto). The ids of their changes are its resume tokens.
//
// Threading: each WatchBoard is called by one thread at a time; `client` outlives it.
#pragma once

#include "client/dashboard/streams/hub.h"
#include "client/lib/client.h"

namespace espalier::dashboard {

WatchBoard BoardOfJobs(client::Client& client);
WatchBoard BoardOfWorkers(client::Client& client);

}  // namespace espalier::dashboard
