// What client.cc and streams.cc make calls with: attempts, pauses, the words of errors. Of this library
// alone.
//
// Threading: thread-safe, as Client is; a Reconnector is of one call.
#pragma once

#include <grpcpp/client_context.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>

#include "client/lib/client.h"
#include "client/lib/servers.h"
#include "common/base/sleep.h"
#include "common/base/status.h"
#include "common/rpc/connection_check.h"
#include "common/rpc/status.h"
#include "fmt/format.h"

namespace espalier::client {

// One stream lives at most this long before it is taken up again: no call is without a deadline.
inline constexpr absl::Duration kStreamLifetime = absl::Hours(1);
inline constexpr absl::Duration kFirstBackoff = absl::Milliseconds(200);
inline constexpr absl::Duration kLongestBackoff = absl::Seconds(5);
// Where another server stands in or is about to: what is known of the failed one need not be much, and
// nobody should wait long beyond the moment in which it takes over, or at most so long.
inline constexpr absl::Duration kExplainLimitOfSeveral = absl::Seconds(1);
inline constexpr absl::Duration kLongestBackoffOfSeveral = absl::Seconds(1);
inline constexpr absl::Duration kTakeOver = absl::Seconds(20);
inline constexpr int kPageSize = 1000;

// The stream can be taken up again: a broken connection, the stream's own lifetime, or a pause of
// ours that was longer than the coordinator waits for a reader.
inline bool IsTransient(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kResourceExhausted ||
         status.code() == absl::StatusCode::kDeadlineExceeded;
}

inline absl::Status Stopped() {
  return base::MakeError(absl::StatusCode::kCancelled, "STOPPED", "stopped by the user");
}

// Retries a stream with growing pauses, until it makes no progress for too long.
class Reconnector {
 public:
  Reconnector(absl::Duration reconnect_for, absl::Time deadline, absl::Duration longest_pause)
      : reconnect_for_(reconnect_for), deadline_(deadline), longest_pause_(longest_pause) {}

  // Something arrived: the next failure counts from here.
  void Progress() {
    failing_since_ = absl::InfiniteFuture();
    backoff_ = kFirstBackoff;
  }

  // Pauses before the next attempt. False when `status` is final.
  bool MayRetry(const absl::Status& status, const std::stop_token& stop) {
    const absl::Time now = absl::Now();
    if (!IsTransient(status) || now >= deadline_) return false;
    failing_since_ = std::min(failing_since_, now);
    if (now - failing_since_ >= reconnect_for_) return false;
    const absl::Duration pause = std::min(backoff_, deadline_ - now);
    backoff_ = std::min(backoff_ * 2, longest_pause_);
    return base::SleepUnlessStopped(absl::ToChronoNanoseconds(pause), stop);
  }

 private:
  absl::Duration reconnect_for_;
  absl::Time deadline_;
  absl::Duration longest_pause_;
  absl::Time failing_since_ = absl::InfiniteFuture();
  absl::Duration backoff_ = kFirstBackoff;
};

// A stop that is requested when one of two is.
class EitherStop {
 public:
  EitherStop(const std::stop_token& one, const std::stop_token& other)
      : on_one_(one, Forward{this}), on_other_(other, Forward{this}) {}

  std::stop_token token() const { return source_.get_token(); }

 private:
  struct Forward {
    EitherStop* self;
    void operator()() const { self->source_.request_stop(); }
  };

  std::stop_source source_;
  std::stop_callback<Forward> on_one_;
  std::stop_callback<Forward> on_other_;
};

// Whether a call that ended like this is worth another attempt: no connection came about, or the
// coordinator's buffers are full, and nothing is known that would stay.
inline bool MayPass(const absl::Status& status) {
  const std::string reason = base::ReasonOf(status);
  return status.code() == absl::StatusCode::kUnavailable &&
         (reason.empty() || reason == "COORDINATOR_BUSY");
}

// Whether no server was there at all, which another one may be.
inline bool CannotBeReached(const absl::Status& status) {
  const std::string reason = base::ReasonOf(status);
  return status.code() == absl::StatusCode::kUnavailable &&
         (reason.empty() || reason == "CONNECTION_REFUSED" || reason == "HOST_UNKNOWN");
}

// Whether there is a server, or a proxy, that does not let us in. That will stay; another server may.
inline bool IsOfConnection(const absl::Status& status) {
  const std::string reason = base::ReasonOf(status);
  return status.code() == absl::StatusCode::kUnavailable &&
         (reason == "PROXY_FAILED" || reason.starts_with("TLS_"));
}

// Text in a request must be UTF-8; gRPC would send other bytes, and the server could not say what
// is wrong with them.
inline absl::Status CheckText(const google::protobuf::MessageLite& request) {
  const std::unique_ptr<google::protobuf::MessageLite> copy(request.New());
  if (copy->ParseFromString(request.SerializeAsString())) return absl::OkStatus();
  return base::InvalidArgument(
      "TEXT_INVALID", "expected all names and texts of a request in UTF-8, found other bytes");
}

struct Client::Impl {
  Impl(ClientOptions client_options, std::unique_ptr<Servers> known)
      : options(std::move(client_options)), servers(std::move(known)) {}

  // What the transport says when there is no answer of the server, in words that help.
  absl::Status Told(const absl::Status& error) const {
    const std::string reason = base::ReasonOf(error);
    if (CannotBeReached(error)) {
      return base::MakeError(
          error.code(), "COORDINATOR_UNREACHABLE",
          fmt::format(
              "expected a coordinator at {}, found none ({}); start one with `espalier up`, "
              "or name its address with --server or ESPALIER_SERVER; a coordinator with "
              "TLS also needs --ca, and where it asks for certificates --cert and --key",
              options.server, base::MessageOf(error)));
    }
    if (error.code() == absl::StatusCode::kDeadlineExceeded && reason.empty()) {
      return base::MakeError(
          error.code(), "DEADLINE_EXCEEDED",
          fmt::format("{} did not answer within {}; raise --timeout, or check the "
                      "coordinator's load",
                      options.server, Text(options.timeout)));
    }
    return error;
  }

  // Ends of a wait for a job. What became of the job is said only as far as it is known.
  absl::Status WaitedTooLong(const std::string& name, bool lost) const {
    return base::MakeError(
        absl::StatusCode::kDeadlineExceeded, "WAIT_TIMEOUT",
        lost ? fmt::format("{} has not ended within --timeout, and the coordinator at {} cannot be "
                           "reached; the job goes on when that is back",
                           name, options.server)
             : fmt::format("{} has not ended within --timeout; it goes on", name));
  }
  absl::Status CoordinatorLost(const std::string& name, const absl::Status& cause) const {
    return base::MakeError(
        absl::StatusCode::kUnavailable, "COORDINATOR_LOST",
        fmt::format("the coordinator at {} was lost while {} was watched, and did not come back "
                    "within {} ({}); the job goes on when the coordinator is back, then watch "
                    "again: espalier job watch {}",
                    options.server, name, Text(options.reconnect_for), base::MessageOf(cause),
                    name));
  }
  absl::Status JobGone(const std::string& name) const {
    return base::NotFound(
        "JOB_LOST",
        fmt::format("the coordinator at {} was started again and does not know {}: it began "
                    "without the jobs of the one before, with another --data-dir or with --store "
                    "memory; checkpoints stay: espalier checkpoint list --job {}",
                    options.server, name, name));
  }

  Reconnector MakeReconnector(absl::Time deadline) const {
    return {options.reconnect_for, deadline,
            several() ? kLongestBackoffOfSeveral : kLongestBackoff};
  }

  bool several() const { return servers->size() > 1; }

  // The error of a call to `server`, and why no connection came about where that is so. A server that
  // cannot be reached is left out from now on, if there is another one.
  absl::Status Explained(const Servers::Handle& server, const grpc::Status& status,
                         absl::Duration limit, const std::stop_token& stop) const {
    absl::Status error = rpc::ExplainFailure(
        server->connection, rpc::FromGrpc(status),
        std::min(limit, several() ? kExplainLimitOfSeveral : rpc::kExplainLimit), stop);
    if (CannotBeReached(error) || (several() && IsOfConnection(error))) servers->LeaveOut(server);
    return error;
  }

  // Whether a call that ended like this, in its attempt of this number, is worth another one: at the
  // server itself, or at one that stands in for it or is about to. `was_there`: an earlier attempt was
  // not refused.
  bool MayPassHere(const absl::Status& error, size_t attempt, bool was_there,
                   absl::Duration waited) const {
    if (MayPass(error)) return true;
    // One that was there a moment ago, too, may be about to be there again.
    if (CannotBeReached(error) && (several() || was_there)) return waited < kTakeOver;
    if (!several()) return false;
    return IsOfConnection(error) && attempt < servers->size();
  }

  static std::string Text(absl::Duration duration) { return absl::FormatDuration(duration); }

  // A unary call with the client's deadline. While nothing but the connection is in its way it is
  // tried again until then: every call of the API may be repeated (CreateJob by its request id).
  template <typename Response, typename Stub, typename Method, typename Request>
  absl::StatusOr<Response> Call(Stub stub, Method method, const Request& request,
                                const std::stop_token& stop_call = {}) const {
    ESPALIER_RETURN_IF_ERROR(CheckText(request));
    const EitherStop either(stop_call, options.stop);
    const std::stop_token stop = either.token();
    const absl::Time begin = absl::Now();
    const absl::Time deadline = begin + options.timeout;
    absl::Duration pause = kFirstBackoff;
    absl::Status cause;
    for (size_t attempt = 1;; ++attempt) {
      grpc::ClientContext context;
      context.set_deadline(absl::ToChronoTime(deadline));
      const std::stop_callback cancel(stop, [&] { context.TryCancel(); });
      Response response;
      const Servers::Handle server = servers->current();
      const grpc::Status status = ((*((*server).*stub)).*method)(&context, request, &response);
      if (status.ok()) return response;
      if (stop.stop_requested()) return Stopped();
      const absl::Status error = Explained(server, status, deadline - absl::Now(), stop);
      // The last attempt ran into the deadline: what was in the way before says more.
      const bool late = error.code() == absl::StatusCode::kDeadlineExceeded;
      if (late && base::ReasonOf(error).empty() && !cause.ok()) return Told(cause);
      // After half of what is left another attempt has as much time again.
      const absl::Duration left = deadline - absl::Now();
      if (!MayPassHere(error, attempt, !cause.ok(), absl::Now() - begin) || left < kFirstBackoff)
        return Told(error);
      cause = error;
      // The others are tried at once.
      if (attempt % servers->size() != 0) continue;
      if (!base::SleepUnlessStopped(absl::ToChronoNanoseconds(std::min(pause, left / 2)), stop)) {
        return Stopped();
      }
      pause = std::min(pause * 2, several() ? kLongestBackoffOfSeveral : kLongestBackoff);
    }
  }

  // A call whose request is a name.
  template <typename Response, typename Request, typename Stub, typename Method>
  absl::StatusOr<Response> CallNamed(Stub stub, Method method, const std::string& name) const {
    Request request;
    request.set_name(name);
    return Call<Response>(stub, method, request);
  }

  // All pages of a list, merged into the first response.
  template <typename Response, typename Stub, typename Method, typename Request, typename Items>
  absl::StatusOr<Response> ListAll(Stub stub, Method method, Request request, size_t limit,
                                   Items items) const {
    Response all;
    for (bool first = true;; first = false) {
      const size_t left = limit - static_cast<size_t>(items(all)->size());
      request.set_page_size(static_cast<int>(std::min<size_t>(left, kPageSize)));
      ESPALIER_ASSIGN_OR_RETURN(auto page, (Call<Response>(stub, method, request)));
      const std::string next = page.next_page_token();
      if (first) {
        all = std::move(page);
      } else {
        for (auto& item : *items(page)) items(all)->Add(std::move(item));
        all.set_next_page_token(next);
      }
      if (next.empty()) return all;
      if (static_cast<size_t>(items(all)->size()) >= limit) return all;
      request.set_page_token(next);
    }
  }

  // Reads one stream to its end; `on_message` may end it with an error.
  template <typename Message, typename Open>
  absl::Status ReadStream(Open open, absl::Time deadline, const std::stop_token& stop,
                          const std::function<absl::Status(const Message&)>& on_message) const {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(std::min(deadline, absl::Now() + kStreamLifetime)));
    const std::stop_callback cancel(stop, [&] { context.TryCancel(); });
    const Servers::Handle server = servers->current();
    const auto reader = open(*server, &context);
    Message message;
    absl::Status refused;
    while (refused.ok() && reader->Read(&message)) refused = on_message(message);
    if (!refused.ok()) context.TryCancel();
    const grpc::Status status = reader->Finish();
    if (stop.stop_requested()) return Stopped();
    if (!refused.ok()) return refused;
    return status.ok() ? absl::OkStatus()
                       : Told(Explained(server, status, rpc::kExplainLimit, stop));
  }

  // Streams the chunks of a checkpoint from `offset()` on to `take`, in as many attempts as it takes.
  absl::Status Download(const std::string& name, const std::function<uint64_t()>& offset,
                        const std::function<absl::Status(const v1::Chunk&)>& take,
                        const std::stop_token& stop_download) const {
    const EitherStop either(stop_download, options.stop);
    const std::stop_token stop = either.token();
    Reconnector reconnector = MakeReconnector(absl::InfiniteFuture());
    v1::GetCheckpointRequest about;
    about.set_name(name);
    v1::DownloadCheckpointRequest request;
    request.set_name(name);
    const auto attempt = [&]() -> absl::Status {
      // Another ticket for each attempt: a coordinator that was started anew knows none of the old ones.
      ESPALIER_ASSIGN_OR_RETURN(
          const v1::Checkpoint found,
          Call<v1::Checkpoint>(&Server::checkpoints, &v1::CheckpointService::Stub::GetCheckpoint,
                               about, stop));
      request.set_ticket(found.download_ticket());
      request.set_offset(offset());
      return ReadStream<v1::Chunk>(
          [&](const Server& server, grpc::ClientContext* context) {
            return server.checkpoints->DownloadCheckpoint(context, request);
          },
          absl::InfiniteFuture(), stop,
          [&](const v1::Chunk& chunk) {
            ESPALIER_RETURN_IF_ERROR(take(chunk));
            reconnector.Progress();
            return absl::OkStatus();
          });
    };
    for (;;) {
      const absl::Status status = attempt();
      if (status.ok()) return status;
      if (!reconnector.MayRetry(status, stop)) return stop.stop_requested() ? Stopped() : status;
    }
  }

  ClientOptions options;
  std::unique_ptr<Servers> servers;
};

}  // namespace espalier::client
