#include "client/dashboard/streams/watched_boards.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "client/json/json.h"

namespace espalier::dashboard {
namespace {

template <typename Message>
Frame FrameOf(const char* event, const Message& message, const std::string& id) {
  return MakeFrame(event, client::ToJson(message, client::Layout::kLine), id);
}

Frame GoneFrame(const std::string& name, const std::string& id) {
  client::Json json;
  json["name"] = name;
  return FrameOf("gone", json, id);
}

void ShowThing(Board& board, const v1::WatchJobsResponse& change) {
  const std::string& id = change.resume_token();
  if (change.has_job()) {
    board.Put(change.job().name(), FrameOf("job", change.job(), id), id);
  } else if (change.has_event()) {
    board.Happened(FrameOf("event", change.event(), id), id);
  }
}

void ShowThing(Board& board, const v1::WatchWorkersResponse& change) {
  const std::string& id = change.resume_token();
  if (change.has_worker()) {
    board.Put(change.worker().name(), FrameOf("worker", change.worker(), id), id);
  }
}

template <typename Response>
void Show(Board& board, const Response& change) {
  const std::string& id = change.resume_token();
  if (change.has_reset()) {
    board.Reset();
  } else if (change.has_caught_up()) {
    board.CaughtUp(id);
  } else if (!change.gone().empty()) {
    board.Remove(change.gone(), GoneFrame(change.gone(), id), id);
  } else {
    ShowThing(board, change);
  }
}

template <typename Request, typename Response>
using Watch = absl::Status (client::Client::*)(
    Request request, const std::function<void(const Response&)>& on_change,
    const std::function<void(const absl::Status&)>& lost, std::stop_token stop);

template <typename Request, typename Response>
WatchBoard BoardOf(client::Client& client, Watch<Request, Response> watch) {
  // Outlives a watch that breaks: its board goes on from there.
  const auto token = std::make_shared<std::string>();
  return [&client, watch, token](Board& board, bool fresh, const std::stop_token& stop) {
    if (!fresh && token->empty()) board.Reset();
    Request request;
    if (fresh) token->clear();
    request.set_resume_token(*token);
    const auto take = [&board, token](const Response& change) {
      if (change.has_reset()) token->clear();
      if (!change.resume_token().empty()) *token = change.resume_token();
      Show(board, change);
    };
    // Whoever called waits for the connection, together with all other watches.
    std::stop_source over;
    const std::stop_callback stopped(stop, [&over] { over.request_stop(); });
    absl::Status lost;
    const absl::Status ended = (client.*watch)(
        request, take,
        [&](const absl::Status& why) {
          lost = why;
          over.request_stop();
        },
        over.get_token());
    // It is of another coordinator: the next watch begins anew.
    if (absl::IsInvalidArgument(ended)) token->clear();
    return lost.ok() ? ended : lost;
  };
}

}  // namespace

WatchBoard BoardOfJobs(client::Client& client) {
  return BoardOf<v1::WatchJobsRequest, v1::WatchJobsResponse>(client, &client::Client::WatchJobs);
}

WatchBoard BoardOfWorkers(client::Client& client) {
  return BoardOf<v1::WatchWorkersRequest, v1::WatchWorkersResponse>(client,
                                                                    &client::Client::WatchWorkers);
}

}  // namespace espalier::dashboard
