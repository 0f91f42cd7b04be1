#include "client/dashboard/routes.h"

#include <algorithm>
#include <span>

namespace espalier::dashboard {
namespace {

struct Known {
  std::string_view method;
  std::vector<std::string_view> path;  // below /api/v1; "*" is an id
  Call call;
};

std::span<const Known> AllKnown() {
  static const std::vector<Known> known = {
      {"GET", {"jobs"}, Call::kListJobs},
      {"POST", {"jobs"}, Call::kCreateJob},
      {"GET", {"jobs", "*"}, Call::kGetJob},
      {"GET", {"jobs", "*", "rounds"}, Call::kListRounds},
      {"GET", {"jobs", "*", "progress"}, Call::kGetRoundProgress},
      {"GET", {"jobs", "*", "checkpoints"}, Call::kListJobCheckpoints},
      {"GET", {"jobs", "*", "events"}, Call::kWatchJob},
      {"POST", {"jobs", "*", "pause"}, Call::kPauseJob},
      {"POST", {"jobs", "*", "resume"}, Call::kResumeJob},
      {"POST", {"jobs", "*", "cancel"}, Call::kCancelJob},
      {"POST", {"jobs", "*", "retry"}, Call::kRetryJob},
      {"POST", {"jobs", "*", "recommend"}, Call::kRecommend},
      {"GET", {"checkpoints", "*"}, Call::kGetCheckpoint},
      {"GET", {"checkpoints", "*", "file"}, Call::kDownloadCheckpoint},
      {"GET", {"topology"}, Call::kGetTopology},
      {"GET", {"workers"}, Call::kListWorkers},
      {"POST", {"workers", "*", "drain"}, Call::kDrainWorker},
      {"POST", {"workers", "*", "undrain"}, Call::kUndrainWorker},
      {"GET", {"cluster"}, Call::kGetCluster},
      {"GET", {"system"}, Call::kGetSystem},
      {"GET", {"methods"}, Call::kListMethods},
      {"GET", {"methods", "*"}, Call::kDescribeMethod},
      {"GET", {"session"}, Call::kGetSession},
      {"GET", {"watch", "jobs"}, Call::kWatchJobs},
      {"GET", {"watch", "workers"}, Call::kWatchWorkers},
  };
  return known;
}

// Whether the parts behind /api/v1 are those of `path`; the id is then in `id`.
bool Matches(const std::vector<std::string_view>& path, const std::vector<std::string>& parts,
             std::string& id) {
  if (parts.size() != path.size() + 2) return false;
  for (size_t i = 0; i < path.size(); ++i) {
    const std::string& part = parts[i + 2];
    if (path[i] != "*" && path[i] != part) return false;
    if (path[i] == "*") {
      if (part.empty()) return false;
      id = part;
    }
  }
  return true;
}

}  // namespace

bool IsApi(const Target& target) { return !target.parts.empty() && target.parts[0] == "api"; }

bool IsPage(const Target& target) {
  return !IsApi(target) &&
         std::all_of(target.parts.begin(), target.parts.end(),
                     [](const std::string& part) { return part.find('.') == std::string::npos; });
}

Routing FindRoute(std::string_view method, const Target& target) {
  Routing routing;
  const bool versioned = IsApi(target) && target.parts.size() > 2 && target.parts[1] == "v1";
  if (!versioned) return routing;
  for (const Known& known : AllKnown()) {
    std::string id;
    if (!Matches(known.path, target.parts, id)) continue;
    if (known.method == method) {
      routing.route = Route{known.call, std::move(id)};
      return routing;
    }
    routing.allowed.emplace_back(known.method);
  }
  return routing;
}

bool IsAction(Call call) {
  return std::any_of(AllKnown().begin(), AllKnown().end(), [call](const Known& known) {
    return known.call == call && known.method == "POST";
  });
}

}  // namespace espalier::dashboard
