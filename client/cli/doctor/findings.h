// Findings: what `espalier cluster doctor` looks at, what it found, and what to do about it.
//
// Everything here is a pure function of what was asked before, so that each finding has a
// test.
#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "espalier/v1/access.pb.h"
#include "espalier/v1/cluster.pb.h"
#include "espalier/v1/job.pb.h"
#include "espalier/v1/system.pb.h"

namespace espalier::cli {

struct Finding {
  // kWarning: it works, and will not for ever or not well. kError: something does not work.
  enum class Level { kOk, kWarning, kError };

  Level level = Level::kOk;
  std::string check;  // what was looked at, such as "clock"
  std::string found;  // a sentence
  std::string fix;    // what to do; "" where nothing is to be done
};
using Findings = std::vector<Finding>;

// "ok", "warning" or "error".
std::string LevelWord(Finding::Level level);

// `ahead`: how far the coordinator's clock is before ours, give or take `uncertain`.
Finding CheckClock(absl::Duration ahead, absl::Duration uncertain);
// The end of a certificate or token. `fix`: how to get the next one.
Finding CheckExpiry(const std::string& what, absl::Time end, absl::Time now,
                    const std::string& fix);
// Who we are for the coordinator.
Finding CheckIdentity(const v1::Identity& identity);
// Our version, the coordinator's and those of workers that are connected.
Findings CheckVersions(const std::string& own, const v1::ClusterInfo& cluster,
                       const std::vector<v1::Worker>& workers);
// The coordinator's store, disk, memory, files and limits.
Findings CheckSystem(const v1::SystemInfo& system);
// Workers that are missing, put aside or about to be, and their certificates.
Findings CheckWorkers(const std::vector<v1::Worker>& workers, absl::Time now);
// Data sets, and why some of them cannot be used.
Findings CheckDatasets(const std::vector<v1::Worker>& workers);
// Jobs that wait, with what they wait for.
Findings CheckJobs(const std::vector<v1::Job>& jobs);

}  // namespace espalier::cli
