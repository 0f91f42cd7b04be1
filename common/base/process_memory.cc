#include "common/base/process_memory.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#include <cstdlib>
#include <string_view>

namespace espalier::base {

void KeepMemoryPrivate() {
  const char* debuggable = getenv("ESPALIER_DEBUGGABLE");
  if (debuggable != nullptr && std::string_view(debuggable) == "1") return;
  const rlimit none{0, 0};
  // Neither fails: a limit may always be lowered.
  setrlimit(RLIMIT_CORE, &none);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

}  // namespace espalier::base
