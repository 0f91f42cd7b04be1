// In place of the web app's files, for programs that are built without them.
#include "client/dashboard/web_files.h"

namespace espalier::dashboard {

std::span<const WebFile> WebFiles() { return {}; }

}  // namespace espalier::dashboard
