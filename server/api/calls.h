// Helpers for answering calls: unary calls that run on the core executor, and the metrics of a
// call.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "common/base/limits.h"
#include "espalier/v1/job.pb.h"
#include "server/api/context.h"

namespace espalier::server::api {

// Counts a finished call.
void CountCall(metrics::Metrics& metrics, const char* method, const absl::Status& status);

// The error of a call in which something did not happen in time: "expected {what} within {time},
// found that it did not come; {advice}". DeadlineExceeded unless another code is given.
absl::Status LimitError(std::string_view reason, std::string_view what, absl::Duration within,
                        std::string_view advice,
                        absl::StatusCode code = absl::StatusCode::kDeadlineExceeded);

// Counts and logs a call that was ended or refused because it passed a limit.
void CountLimit(const Context& context, const char* method, const absl::Status& status);

// Ends a call without waiting for its peer: what is under way fails, and the peer is told code and
// message of `status` if it ever reads on.
void AbortCall(grpc::CallbackServerContext& call, const absl::Status& status);

// What is called, by its name in the table of permissions, and what about, for the audit log.
struct Subject {
  const char* method;
  std::string object = {};
  // Where the call makes what it is about: asked for the name when it has succeeded.
  std::function<std::string()> made = {};
  int64_t bytes = 0;  // of a request that may be large
};

// Who makes the call, if he may: every handler asks first. A refusal is counted and written into the
// audit log. Errors: those of access::Gate; Unavailable AUDIT_LOG_UNWRITABLE for a call that has to be in
// the audit log, which cannot be written at present.
absl::StatusOr<access::Caller> AdmitCall(const Context& context,
                                         const grpc::CallbackServerContext& call,
                                         const Subject& subject);
// A place among the streams that the caller may have open. Errors: ResourceExhausted STREAMS_FULL.
absl::StatusOr<access::CallRates::Stream> OpenPlace(const Context& context,
                                                    const grpc::CallbackServerContext& call,
                                                    const access::Caller& caller);
// Writes into the audit log how an admitted call ended, if it belongs there.
void AuditCall(const Context& context, const access::Caller& caller, const Subject& subject,
               const absl::Status& outcome);

using Answer = std::function<void(const absl::Status&)>;

// Answers with what `work`, run on the core executor, returns.
grpc::ServerUnaryReactor* AnswerOnCore(
    const Context& context, grpc::CallbackServerContext* call, Subject subject,
    std::function<absl::Status(const access::Caller& caller)> work);

// Answers with what `work`, begun on the core executor, hands to its argument there, once.
grpc::ServerUnaryReactor* AnswerLater(
    const Context& context, grpc::CallbackServerContext* call, Subject subject,
    std::function<void(const access::Caller& caller, const Answer& answer)> work);

// Checks page_size and page_token and gives the range [first, last) of `total` items to answer
// with. Errors: InvalidArgument INVALID_PAGE.
struct Page {
  size_t first = 0;
  size_t last = 0;
  std::string next_page_token;
};
absl::StatusOr<Page> MakePage(int page_size, const std::string& page_token, size_t total);

// Fills a list of an answer with what `item(i)` gives for the page's range. The page ends early,
// after at least one item, where the answer would be larger than base::kMaxAnswerBytes: its token
// then leads on from there.
template <typename Response, typename List, typename Item>
void FillPage(const Page& page, const Item& item, List* list, Response* response) {
  size_t bytes = 0;
  response->set_next_page_token(page.next_page_token);
  for (size_t i = page.first; i < page.last; ++i) {
    auto next = item(i);
    // A tag and a length stand before each item.
    constexpr size_t kFramingBytes = 8;
    bytes += next.ByteSizeLong() + kFramingBytes;
    if (bytes > base::kMaxAnswerBytes && i > page.first) {
      response->set_next_page_token(std::to_string(i));
      return;
    }
    *list->Add() = std::move(next);
  }
}

// A job as it may be answered: its oldest rounds are left out, and counted, where it would be
// larger than base::kMaxAnswerBytes. The newest round stays.
v1::Job Fitting(v1::Job job);

}  // namespace espalier::server::api
