// Replies of the API: messages and errors as JSON. Pure functions.
#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "client/dashboard/http/message.h"
#include "client/json/json.h"

namespace espalier::dashboard {

Reply JsonReply(const client::Json& json);
Reply JsonReply(const google::protobuf::Message& message);

// The status of HTTP for an error.
unsigned int HttpStatusOf(const absl::Status& status);
// {"error": {"code": …, "reason": …, "message": …, "violations": […]}}.
Reply ErrorReply(const absl::Status& status);
// The same with another status of HTTP than the one that the code has.
Reply ErrorReply(unsigned int http, const absl::Status& status);

// What was found out before anybody was asked. The code of the error follows from `http`.
Reply RefusalReply(unsigned int http, std::string_view reason, std::string_view message);

}  // namespace espalier::dashboard
