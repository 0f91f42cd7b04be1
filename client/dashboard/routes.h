// Which call of the JSON API a path is. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/dashboard/http/target.h"

namespace espalier::dashboard {

enum class Call {
  kListJobs,
  kGetJob,
  kListRounds,
  kGetRoundProgress,
  kListJobCheckpoints,
  kGetCheckpoint,
  kDownloadCheckpoint,
  kGetTopology,
  kListWorkers,
  kGetCluster,
  kGetSystem,
  kListMethods,
  kDescribeMethod,
  kGetSession,
  kWatchJob,
  kWatchJobs,
  kWatchWorkers,
  kCreateJob,
  kPauseJob,
  kResumeJob,
  kCancelJob,
  kRetryJob,
  kDrainWorker,
  kUndrainWorker,
  kRecommend,
};

struct Route {
  Call call = Call::kListJobs;
  std::string id;  // of the job, checkpoint, worker or method; "" where there is none
};

// Whether a path is one of the API at all, known or not.
bool IsApi(const Target& target);
// Whether a path is one of the page, which knows its own ones.
bool IsPage(const Target& target);

struct Routing {
  std::optional<Route> route;
  // Where the path is known, but not with this method: the methods with which it is.
  std::vector<std::string> allowed;
};
Routing FindRoute(std::string_view method, const Target& target);

// Whether a call changes something or makes somebody work, and needs what only the page has.
bool IsAction(Call call);

}  // namespace espalier::dashboard
