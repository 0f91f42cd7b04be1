// The calls of Client that go on for long: watches and downloads.
#include <utility>

#include "client/lib/client.h"
#include "client/lib/client_impl.h"
#include "client/lib/download.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::client {
namespace {

// Reads a stream of changes again and again, each time from where the one before has ended.
template <typename Response, typename Request, typename Read>
absl::Status WatchChanges(Request request, Reconnector reconnector, const Read& read,
                          const std::function<void(const Response&)>& on_change,
                          const std::function<void(const absl::Status&)>& on_reconnect,
                          const std::stop_token& stop) {
  for (;;) {
    bool began = false;
    const absl::Status status = read(request, [&](const Response& response) {
      began = true;
      reconnector.Progress();
      if (response.has_reset()) request.clear_resume_token();
      if (!response.resume_token().empty()) request.set_resume_token(response.resume_token());
      on_change(response);
      return absl::OkStatus();
    });
    if (status.ok() || status.code() == absl::StatusCode::kCancelled) return status;
    if (status.code() == absl::StatusCode::kUnavailable) on_reconnect(status);
    if (!reconnector.MayRetry(status, stop)) return stop.stop_requested() ? Stopped() : status;
    if (!began || !request.resume_token().empty()) continue;
    Response reset;
    reset.mutable_reset()->set_reason("the stream broke before everything was sent");
    on_change(reset);
  }
}

}  // namespace

absl::Status Client::WatchJob(const std::string& name, int64_t after_sequence,
                              const std::function<void(const v1::JobEvent&)>& on_event,
                              const std::function<void(const absl::Status&)>& on_reconnect,
                              std::stop_token stop_watch, absl::Time deadline) {
  const EitherStop either(stop_watch, impl_->options.stop);
  const std::stop_token stop = either.token();
  Reconnector reconnector = impl_->MakeReconnector(deadline);
  v1::WatchJobRequest request;
  request.set_name(name);
  request.set_after_sequence(after_sequence);
  bool was_lost = false;  // since the beginning
  bool is_lost = false;   // since the last event; an attempt that runs out of time says nothing
  for (;;) {
    const absl::Status status = impl_->ReadStream<v1::WatchJobResponse>(
        [&](const Server& server, grpc::ClientContext* context) {
          return server.jobs->WatchJob(context, request);
        },
        deadline, stop,
        [&](const v1::WatchJobResponse& response) {
          // A server that repeats itself after a resume is heard once.
          if (response.event().sequence() <= request.after_sequence()) return absl::OkStatus();
          is_lost = false;
          request.set_after_sequence(response.event().sequence());
          reconnector.Progress();
          on_event(response.event());
          return absl::OkStatus();
        });
    if (status.ok() || status.code() == absl::StatusCode::kCancelled) return status;
    const bool lost = status.code() == absl::StatusCode::kUnavailable;
    is_lost = is_lost || lost;
    if (absl::Now() >= deadline) return impl_->WaitedTooLong(name, is_lost);
    if (status.code() == absl::StatusCode::kNotFound && was_lost) return impl_->JobGone(name);
    was_lost = was_lost || lost;
    if (lost) on_reconnect(status);
    if (!reconnector.MayRetry(status, stop)) {
      if (stop.stop_requested()) return Stopped();
      // At the deadline of the wait a pause ends, too.
      if (absl::Now() >= deadline) return impl_->WaitedTooLong(name, is_lost);
      return lost ? impl_->CoordinatorLost(name, status) : status;
    }
  }
}

absl::Status Client::WatchJobs(v1::WatchJobsRequest request,
                               const std::function<void(const v1::WatchJobsResponse&)>& on_change,
                               const std::function<void(const absl::Status&)>& on_reconnect,
                               std::stop_token stop_watch) {
  const EitherStop either(stop_watch, impl_->options.stop);
  const auto read = [&](const v1::WatchJobsRequest& asked, const auto& take) {
    return impl_->ReadStream<v1::WatchJobsResponse>(
        [&](const Server& server, grpc::ClientContext* context) {
          return server.events->WatchJobs(context, asked);
        },
        absl::InfiniteFuture(), either.token(), take);
  };
  return WatchChanges<v1::WatchJobsResponse>(std::move(request),
                                             impl_->MakeReconnector(absl::InfiniteFuture()), read,
                                             on_change, on_reconnect, either.token());
}

absl::Status Client::WatchWorkers(
    v1::WatchWorkersRequest request,
    const std::function<void(const v1::WatchWorkersResponse&)>& on_change,
    const std::function<void(const absl::Status&)>& on_reconnect, std::stop_token stop_watch) {
  const EitherStop either(stop_watch, impl_->options.stop);
  const auto read = [&](const v1::WatchWorkersRequest& asked, const auto& take) {
    return impl_->ReadStream<v1::WatchWorkersResponse>(
        [&](const Server& server, grpc::ClientContext* context) {
          return server.events->WatchWorkers(context, asked);
        },
        absl::InfiniteFuture(), either.token(), take);
  };
  return WatchChanges<v1::WatchWorkersResponse>(std::move(request),
                                                impl_->MakeReconnector(absl::InfiniteFuture()),
                                                read, on_change, on_reconnect, either.token());
}

absl::Status Client::DownloadCheckpoint(const v1::Checkpoint& checkpoint, const std::string& path,
                                        const std::function<void(int64_t)>& on_progress,
                                        std::stop_token stop) {
  ESPALIER_ASSIGN_OR_RETURN(PartFile file,
                            PartFile::Open(path, static_cast<uint64_t>(checkpoint.size_bytes())));
  ESPALIER_RETURN_IF_ERROR(impl_->Download(
      checkpoint.name(), [&file] { return file.offset(); },
      [&](const v1::Chunk& chunk) {
        ESPALIER_RETURN_IF_ERROR(file.Append(chunk));
        on_progress(static_cast<int64_t>(file.offset()));
        return absl::OkStatus();
      },
      stop));
  return file.Finish(checkpoint.sha256());
}

absl::Status Client::ReadCheckpoint(const v1::Checkpoint& checkpoint,
                                    const std::function<absl::Status(std::string_view)>& take,
                                    std::stop_token stop) {
  ArrivingFile file(static_cast<uint64_t>(checkpoint.size_bytes()));
  ESPALIER_RETURN_IF_ERROR(impl_->Download(
      checkpoint.name(), [&file] { return file.offset(); },
      [&](const v1::Chunk& chunk) {
        ESPALIER_RETURN_IF_ERROR(file.Check(chunk));
        ESPALIER_RETURN_IF_ERROR(take(chunk.data()));
        file.Add(chunk.data());
        return absl::OkStatus();
      },
      stop));
  ESPALIER_RETURN_IF_ERROR(file.CheckWhole());
  const std::string found = file.Sha256();
  if (found == checkpoint.sha256()) return absl::OkStatus();
  return base::MakeError(
      absl::StatusCode::kDataLoss, "CHECKSUM_MISMATCH",
      fmt::format("expected SHA-256 {}, found {}; try again", checkpoint.sha256(), found));
}

}  // namespace espalier::client
