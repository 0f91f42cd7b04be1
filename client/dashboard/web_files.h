// The files of the web app, which are part of the program: compressed by gzip, as client/dashboard/web
// was when the program was built.
#pragma once

#include <span>
#include <string_view>

namespace espalier::dashboard {

struct WebFile {
  std::string_view path;  // "index.html" or "assets/app-1a2b3c.js"
  std::string_view type;  // of its content, as in a header
  std::string_view etag;  // with its quotes
  std::string_view gzip;
};

// index.html is among them.
std::span<const WebFile> WebFiles();

}  // namespace espalier::dashboard
