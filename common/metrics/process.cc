#include "common/metrics/process.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace espalier::metrics {
namespace {

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

double ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  double whole = 0;
  double resident = 0;
  file >> whole >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double EntriesOf(const char* folder) {
  std::error_code error;
  double entries = 0;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error)) {
    ++entries;
  }
  return entries;
}

}  // namespace

ProcessUsage UsageOfThisProcess() {
  ProcessUsage usage;
  rusage times{};
  if (getrusage(RUSAGE_SELF, &times) == 0) {
    usage.cpu_seconds = Seconds(times.ru_utime) + Seconds(times.ru_stime);
  }
  usage.resident_bytes = ResidentBytes();
  usage.threads = EntriesOf("/proc/self/task");
  usage.open_files = EntriesOf("/proc/self/fd");
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    usage.max_files = static_cast<double>(limit.rlim_cur);
  }
  return usage;
}

}  // namespace espalier::metrics
