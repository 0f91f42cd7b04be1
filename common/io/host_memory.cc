#include "common/io/host_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <vector>

namespace espalier::io {
namespace {

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

// The number in a file; "max" and anything else that is none limit nothing.
uint64_t LimitIn(const std::string& path) {
  std::ifstream file(path);
  uint64_t bytes = 0;
  return file >> bytes ? bytes : kUnlimited;
}

// Of `group` and of all groups around it. A container often sees its own group at the top and its
// path as the host names it, which leads nowhere; then the top counts.
uint64_t LeastLimit(const std::string& top, std::string group, const std::string& name) {
  uint64_t least = kUnlimited;
  while (true) {
    std::string path = top;
    path.append(group).append("/").append(name);
    least = std::min(least, LimitIn(path));
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos) return least;
    group.resize(slash);
  }
}

bool HasMemory(const std::string& controllers) {
  std::istringstream words(controllers);
  for (std::string word; std::getline(words, word, ',');) {
    if (word == "memory") return true;
  }
  return false;
}

uint64_t ControlGroupLimit(const std::string& root) {
  uint64_t least = kUnlimited;
  std::ifstream groups(root + "/proc/self/cgroup");
  // Number, controllers and path, with colons between them; version 2 has neither of the first two.
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      for (const char* top : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
        least = std::min(least, LeastLimit(root + top, group, "memory.max"));
      }
    } else if (HasMemory(controllers)) {
      least = std::min(least,
                       LeastLimit(root + "/sys/fs/cgroup/memory", group, "memory.limit_in_bytes"));
    }
  }
  return least;
}

uint64_t MachineMemory(const std::string& root) {
  constexpr uint64_t kKibibyte = 1024;
  std::ifstream info(root + "/proc/meminfo");
  std::string name;
  uint64_t amount = 0;
  while (info >> name) {
    if (name == "MemTotal:" && info >> amount) return amount * kKibibyte;
    info.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return kUnlimited;
}

}  // namespace

uint64_t ControlGroupMemoryBytes(const std::string& root) {
  const uint64_t least = ControlGroupLimit(root);
  return least == kUnlimited ? 0 : least;
}

uint64_t HostMemoryBytes(const std::string& root) {
  const uint64_t least = std::min(MachineMemory(root), ControlGroupLimit(root));
  return least == kUnlimited ? 0 : least;
}

}  // namespace espalier::io
