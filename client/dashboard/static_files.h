// Replies with files of the web app.
//
// Threading: pure functions.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "client/dashboard/http/message.h"
#include "client/dashboard/web_files.h"

namespace espalier::dashboard {

// The page or the file that a GET or HEAD asks for; nothing where there is none. A path without a dot is
// a view of the page, which is index.html.
std::optional<Reply> StaticReply(const Request& request, std::span<const WebFile> files);

// What was compressed by gzip. Errors: DataLoss GZIP_DAMAGED.
absl::StatusOr<std::string> Unzipped(std::string_view gzip);

}  // namespace espalier::dashboard
