#include "client/dashboard/streams/polled_boards.h"

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "client/json/json.h"
#include "common/base/sleep.h"
#include "common/base/status.h"

namespace espalier::dashboard {
namespace {

constexpr absl::Duration kLeastPause = absl::Seconds(1);
constexpr int kTimesPause = 10;
constexpr size_t kMostJobs = 10'000;
constexpr size_t kMostWorkers = 10'000;

// What is listed, by name.
using Listed = std::map<std::string, std::string>;

Frame GoneFrame(const std::string& name) {
  client::Json json;
  json["name"] = name;
  return MakeFrame("gone", client::ToJson(json, client::Layout::kLine));
}

// Puts on the board what is not there yet, or was otherwise in `shown`.
void Show(Board& board, const char* event, const Listed& listed, Listed& shown) {
  for (const auto& [name, json] : listed) {
    const auto before = shown.find(name);
    if (before != shown.end() && before->second == json) continue;
    board.Put(name, MakeFrame(event, json), "");
  }
  for (const std::string& name : board.names()) {
    if (!listed.contains(name)) board.Remove(name, GoneFrame(name), "");
  }
  shown = listed;
}

using List = std::function<absl::StatusOr<Listed>()>;

// `shown` outlives a watch that breaks: its board goes on then.
WatchBoard Poll(const char* event, List list) {
  return [event, list = std::move(list), shown = std::make_shared<Listed>()](
             Board& board, bool fresh, const std::stop_token& stop) -> absl::Status {
    if (fresh) shown->clear();
    for (bool first = true;; first = false) {
      const absl::Time begin = absl::Now();
      ESPALIER_ASSIGN_OR_RETURN(const Listed listed, list());
      Show(board, event, listed, *shown);
      if (first && fresh) board.CaughtUp("");
      const absl::Duration pause = std::max(kLeastPause, (absl::Now() - begin) * kTimesPause);
      if (!base::SleepUnlessStopped(absl::ToChronoNanoseconds(pause), stop)) {
        return absl::CancelledError("nobody looks any more");
      }
    }
  };
}

template <typename Messages>
Listed ListedOf(const Messages& messages) {
  Listed listed;
  for (const auto& message : messages) {
    listed[message.name()] = client::ToJson(message, client::Layout::kLine);
  }
  return listed;
}

}  // namespace

WatchBoard PollJobs(client::Client& client) {
  return Poll("job", [&client]() -> absl::StatusOr<Listed> {
    ESPALIER_ASSIGN_OR_RETURN(const auto jobs, client.ListJobs(v1::ListJobsRequest(), kMostJobs));
    return ListedOf(jobs.jobs());
  });
}

WatchBoard PollWorkers(client::Client& client) {
  return Poll("worker", [&client]() -> absl::StatusOr<Listed> {
    ESPALIER_ASSIGN_OR_RETURN(const auto workers, client.ListWorkers(kMostWorkers));
    return ListedOf(workers.workers());
  });
}

}  // namespace espalier::dashboard
