#include "client/dashboard/replies.h"

#include <memory>
#include <utility>

#include "client/lib/client.h"
#include "common/base/status.h"

namespace espalier::dashboard {
namespace {

absl::StatusCode CodeOf(unsigned int http) {
  switch (http) {
    case 400:
    case 405:
    case 413:
    case 415:
    case 421:
      return absl::StatusCode::kInvalidArgument;
    case 403:
      return absl::StatusCode::kPermissionDenied;
    case 404:
      return absl::StatusCode::kNotFound;
    case 429:
      return absl::StatusCode::kResourceExhausted;
    case 503:
      return absl::StatusCode::kUnavailable;
    default:
      return absl::StatusCode::kInternal;
  }
}

Reply Json(unsigned int http, const client::Json& json) {
  Reply reply;
  reply.status = http;
  reply.headers = {{"Content-Type", "application/json"}, {"Cache-Control", "no-store"}};
  reply.body = std::make_shared<const std::string>(client::ToJson(json, client::Layout::kLine));
  return reply;
}

}  // namespace

Reply JsonReply(const client::Json& json) { return Json(200, json); }

Reply JsonReply(const google::protobuf::Message& message) {
  return Json(200, client::JsonOf(message));
}

unsigned int HttpStatusOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 200;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
      return 409;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

Reply ErrorReply(unsigned int http, const absl::Status& status) {
  client::Json error;
  error["code"] = absl::StatusCodeToString(status.code());
  error["reason"] = base::ReasonOf(status);
  error["message"] = base::MessageOf(status);
  error["violations"] = client::Json::array();
  for (const config::Violation& violation : client::ViolationsOf(status)) {
    error["violations"].push_back({{"field", violation.field}, {"message", violation.description}});
  }
  if (const int left_out = client::ViolationsLeftOut(status); left_out > 0) {
    error["violations_left_out"] = left_out;
  }
  client::Json json;
  json["error"] = std::move(error);
  return Json(http, json);
}

Reply ErrorReply(const absl::Status& status) { return ErrorReply(HttpStatusOf(status), status); }

Reply RefusalReply(unsigned int http, std::string_view reason, std::string_view message) {
  return ErrorReply(http, base::MakeError(CodeOf(http), reason, message));
}

}  // namespace espalier::dashboard
