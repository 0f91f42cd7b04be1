// Boards that are kept up to date by lists, which are asked for again and again: of a coordinator that
// does not tell of changes by itself.
//
// Cost:      a list a second while somebody looks, and less often where that takes long: at most a tenth
//            of the time is spent on it.
#pragma once

#include "client/dashboard/streams/hub.h"
#include "client/lib/client.h"

namespace espalier::dashboard {

// Both show what the lists show, by the names of jobs and workers; they tell of no events. The client
// must outlive them.
WatchBoard PollJobs(client::Client& client);
WatchBoard PollWorkers(client::Client& client);

}  // namespace espalier::dashboard
