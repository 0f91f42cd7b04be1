// What the process that this is linked into takes of its machine, as the kernel counts it.
#pragma once

namespace espalier::metrics {

struct ProcessUsage {
  double cpu_seconds = 0;  // of all threads, in user mode and in the kernel
  double resident_bytes = 0;
  double threads = 0;
  double open_files = 0;
  double max_files = 0;
};

// What cannot be read is 0. Takes some microseconds, and more with thousands of open files.
// Threading: any thread.
ProcessUsage UsageOfThisProcess();

}  // namespace espalier::metrics
