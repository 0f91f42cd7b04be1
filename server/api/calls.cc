#include "server/api/calls.h"

#include <grpc/grpc.h>
#include <grpcpp/security/auth_context.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <new>
#include <utility>

#include "absl/time/time.h"
#include "common/base/status.h"
#include "common/log/log.h"
#include "common/rpc/status.h"

namespace espalier::server::api {
namespace {

using metrics::Metric;

constexpr int kDefaultPageSize = 50;
constexpr int kMaxPageSize = 1000;

std::string LowerCase(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return word;
}

// Without memory for an answer the caller gets an error, and the coordinator goes on.
absl::Status Guarded(const std::function<absl::Status()>& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return base::MakeError(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY",
                           "the coordinator has not enough memory left to answer; ask again when "
                           "fewer jobs run, or give it more memory");
  }
}

}  // namespace

void CountCall(metrics::Metrics& metrics, const char* method, const absl::Status& status) {
  metrics.Add(Metric::kRpcHandled, 1, method, LowerCase(absl::StatusCodeToString(status.code())));
}

absl::Status LimitError(std::string_view reason, std::string_view what, absl::Duration within,
                        std::string_view advice, absl::StatusCode code) {
  return base::MakeError(code, reason,
                         "expected " + std::string(what) + " within " +
                             absl::FormatDuration(within) + ", found that it did not come; " +
                             std::string(advice));
}

void CountLimit(const Context& context, const char* method, const absl::Status& status) {
  const std::string reason = base::ReasonOf(status);
  context.metrics.Add(Metric::kCallsLimited, 1, LowerCase(reason));
  if (const auto calls = context.limit_log.Take(context.clock.Elapsed())) {
    log::Warning("call_limited", {{"method", method}, {"reason", reason}, {"calls", *calls}});
  }
}

void AbortCall(grpc::CallbackServerContext& call, const absl::Status& status) {
  grpc_call_cancel_with_status(call.c_call(), static_cast<grpc_status_code>(status.code()),
                               base::MessageOf(status).c_str(), nullptr);
}

std::string CallerOf(const grpc::CallbackServerContext& call) {
  std::string caller;
  const auto context = call.auth_context();
  if (context == nullptr || !context->IsPeerAuthenticated()) return caller;
  for (const grpc::string_ref& name : context->GetPeerIdentity()) {
    caller.append(name.data(), name.size());
    caller += '\0';
  }
  return caller;
}

grpc::ServerUnaryReactor* AnswerLater(
    const Context& context, grpc::CallbackServerContext* call, const char* method,
    std::function<void(std::function<void(const absl::Status&)> answer)> work) {
  auto* reactor = call->DefaultReactor();
  const absl::Duration start = context.clock.Elapsed();
  const auto answer = [&context, reactor, method, start](const absl::Status& status) {
    CountCall(context.metrics, method, status);
    context.metrics.Observe(Metric::kRpcDuration,
                            absl::ToDoubleSeconds(context.clock.Elapsed() - start), method);
    reactor->Finish(rpc::ToGrpc(status));
  };
  context.core.Post([work = std::move(work), answer] {
    const auto answered = std::make_shared<bool>(false);
    const auto answer_once = [answer, answered](const absl::Status& status) {
      if (!std::exchange(*answered, true)) answer(status);
    };
    const absl::Status begun = Guarded([&] {
      work(answer_once);
      return absl::OkStatus();
    });
    if (!begun.ok()) answer_once(begun);
  });
  return reactor;
}

grpc::ServerUnaryReactor* AnswerOnCore(const Context& context, grpc::CallbackServerContext* call,
                                       const char* method, std::function<absl::Status()> work) {
  return AnswerLater(context, call, method,
                     [work = std::move(work)](const auto& answer) { answer(Guarded(work)); });
}

absl::StatusOr<Page> MakePage(int page_size, const std::string& page_token, size_t total) {
  if (page_size < 0) {
    return base::InvalidArgument("INVALID_PAGE",
                                 "expected page_size ≥ 0, found " + std::to_string(page_size));
  }
  Page page;
  if (!page_token.empty()) {
    const char* end = page_token.data() + page_token.size();
    const auto [stop, error] = std::from_chars(page_token.data(), end, page.first);
    if (error != std::errc() || stop != end || page.first > total) {
      return base::InvalidArgument(
          "INVALID_PAGE", "expected a page_token from an earlier answer, found '" + page_token +
                              "'; begin without one");
    }
  }
  const size_t size = page_size == 0 ? kDefaultPageSize : std::min(page_size, kMaxPageSize);
  page.last = std::min(total, page.first + size);
  if (page.last < total) page.next_page_token = std::to_string(page.last);
  return page;
}

v1::Job Fitting(v1::Job job) {
  const auto& history = job.history();
  constexpr size_t kFramingBytes = 8;
  size_t bytes = job.ByteSizeLong() + kFramingBytes;
  int left_out = 0;
  while (bytes > base::kMaxAnswerBytes && left_out + 1 < history.size()) {
    bytes -= history[left_out++].ByteSizeLong();
  }
  job.mutable_history()->DeleteSubrange(0, left_out);
  if (job.history_size() > 0) job.set_history_left_out(job.history(0).round() - 1);
  return job;
}

}  // namespace espalier::server::api
