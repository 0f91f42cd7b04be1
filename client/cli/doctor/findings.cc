#include "client/cli/doctor/findings.h"

#include <fmt/format.h>

#include <map>
#include <set>
#include <utility>

#include "client/cli/format.h"

namespace espalier::cli {
namespace {

using Level = Finding::Level;

// Times in logs and of certificates are still right enough below the first; beyond the second,
// certificates and tokens seem to begin too late or to have ended.
constexpr absl::Duration kClockIsOff = absl::Seconds(5);
constexpr absl::Duration kClockIsWrong = absl::Minutes(1);
constexpr absl::Duration kEndsSoon = absl::Hours(24 * 14);
constexpr size_t kMostNamed = 5;

// "w1, w2 and 3 more".
std::string Named(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < kMostNamed; ++i) {
    if (i > 0) text += ", ";
    text += names[i];
  }
  if (names.size() > kMostNamed) text += fmt::format(" and {} more", names.size() - kMostNamed);
  return text;
}

std::string ShortName(const std::string& name) { return name.substr(name.rfind('/') + 1); }

bool IsConnected(const v1::Worker& worker) {
  return worker.state() != v1::Worker::STATE_LOST && worker.state() != v1::Worker::STATE_LEFT;
}

// How much of a limit is taken.
Finding CheckShare(const std::string& check, int64_t used, int64_t limit, const std::string& text,
                   const std::string& fix) {
  constexpr double kMuch = 0.8;
  constexpr double kFull = 0.98;
  const double share = limit > 0 ? static_cast<double>(used) / static_cast<double>(limit) : 0;
  const Level level = share >= kFull   ? Level::kError
                      : share >= kMuch ? Level::kWarning
                                       : Level::kOk;
  return {level, check, text, level == Level::kOk ? "" : fix};
}

}  // namespace

std::string LevelWord(Level level) {
  switch (level) {
    case Level::kOk:
      return "ok";
    case Level::kWarning:
      return "warning";
    case Level::kError:
      return "error";
  }
  return "";
}

Finding CheckClock(absl::Duration ahead, absl::Duration uncertain) {
  const absl::Duration off = absl::AbsDuration(ahead) - uncertain;
  const std::string text = off <= absl::ZeroDuration()
                               ? "the coordinator's clock and this machine's agree"
                               : fmt::format("the coordinator's clock is {} {} this machine's",
                                             HumanDuration(absl::AbsDuration(ahead)),
                                             ahead > absl::ZeroDuration() ? "ahead of" : "behind");
  if (off < kClockIsOff) return {Level::kOk, "clock", text, ""};
  return {
      off < kClockIsWrong ? Level::kWarning : Level::kError, "clock", text,
      "let a time service such as chrony or systemd-timesyncd set both clocks; certificates and "
      "tokens begin and end by them"};
}

Finding CheckExpiry(const std::string& what, absl::Time end, absl::Time now,
                    const std::string& fix) {
  if (end <= now) {
    return {Level::kError, "certificates",
            fmt::format("{} has ended {} ago", what, HumanDuration(now - end)), fix};
  }
  const std::string text = fmt::format("{} ends in {}", what, HumanDuration(end - now));
  if (end - now < kEndsSoon) return {Level::kWarning, "certificates", text, fix};
  return {Level::kOk, "certificates", text, ""};
}

Finding CheckIdentity(const v1::Identity& identity) {
  if (identity.source() == v1::Identity::SOURCE_OPEN) {
    return {Level::kOk, "identity",
            "the coordinator asks nobody who he is: everybody who reaches it may do everything",
            ""};
  }
  // A later coordinator may have roles that this program does not know.
  const bool is_known = v1::AccessRole_IsValid(identity.role());
  const std::string role =
      is_known ? v1::AccessRole_Name(identity.role()).substr(sizeof("ACCESS_ROLE_") - 1)
               : "(unknown)";
  return {Level::kOk, "identity",
          fmt::format("the coordinator knows us as {} with the role {}", identity.name(), role),
          ""};
}

Findings CheckVersions(const std::string& own, const v1::ClusterInfo& cluster,
                       const std::vector<v1::Worker>& workers) {
  Findings findings;
  if (own == cluster.version()) {
    findings.push_back(
        {Level::kOk, "versions", fmt::format("this program and the coordinator are {}", own), ""});
  } else {
    findings.push_back(
        {Level::kWarning, "versions",
         fmt::format("this program is {}, the coordinator {}", own, cluster.version()),
         "install the same version on both"});
  }
  std::map<std::string, std::vector<std::string>> others;
  for (const v1::Worker& worker : workers) {
    if (IsConnected(worker) && worker.version() != cluster.version()) {
      others[worker.version()].push_back(ShortName(worker.name()));
    }
  }
  for (const auto& [version, names] : others) {
    findings.push_back({Level::kWarning, "versions",
                        fmt::format("workers of version {} beside a coordinator of version {}: {}",
                                    version, cluster.version(), Named(names)),
                        "upgrade coordinator and workers together; jobs go on where they were"});
  }
  return findings;
}

Findings CheckSystem(const v1::SystemInfo& system) {
  Findings findings;
  if (!system.store_problem().empty()) {
    findings.push_back({Level::kError, "store", "nothing can be written: " + system.store_problem(),
                        "make room on the disk of the data folder, or mend it; jobs wait meanwhile "
                        "and lose nothing"});
  } else if (system.store() == "memory") {
    findings.push_back({Level::kWarning, "store",
                        "jobs are kept in memory alone, and gone when the coordinator ends",
                        "start it with --store sqlite, which is the default"});
  } else {
    findings.push_back(
        {Level::kOk, "store", fmt::format("jobs are kept in {}", system.store()), ""});
  }
  if (system.data_size_bytes() > 0) {
    findings.push_back(CheckShare(
        "disk", system.data_size_bytes() - system.data_free_bytes(), system.data_size_bytes(),
        fmt::format("{} of {} are free on the disk of the data folder; {} checkpoints take {}",
                    HumanBytes(system.data_free_bytes()), HumanBytes(system.data_size_bytes()),
                    system.checkpoints(), HumanBytes(system.checkpoint_bytes())),
        "delete jobs with their checkpoints (job delete --checkpoints), lower checkpoint.keep, or "
        "give the data folder a larger disk"));
  }
  findings.push_back(CheckShare(
      "memory", system.resident_bytes(), system.memory_bytes(),
      fmt::format("the coordinator takes {} of {} of memory", HumanBytes(system.resident_bytes()),
                  HumanBytes(system.memory_bytes())),
      "run fewer jobs at once (--memory-budget), or give the coordinator more memory"));
  findings.push_back(CheckShare(
      "files", system.open_files(), system.max_open_files(),
      fmt::format("the coordinator has {} of {} files and connections open", system.open_files(),
                  system.max_open_files()),
      "raise the hard limit of open files (LimitNOFILE= of systemd, ulimits of compose)"));
  findings.push_back(CheckShare(
      "limits", system.jobs_in_work(), system.max_jobs(),
      fmt::format("{} of {} jobs have not ended", system.jobs_in_work(), system.max_jobs()),
      "wait for some to end, or cancel them"));
  findings.push_back({Level::kOk, "threads",
                      fmt::format("the coordinator has {} threads on {} processors",
                                  system.threads(), system.processors()),
                      ""});
  return findings;
}

Findings CheckWorkers(const std::vector<v1::Worker>& workers, absl::Time now) {
  Findings findings;
  std::vector<std::string> lost;
  int64_t active = 0;
  for (const v1::Worker& worker : workers) {
    const std::string name = ShortName(worker.name());
    if (worker.state() == v1::Worker::STATE_ACTIVE) ++active;
    if (worker.state() == v1::Worker::STATE_LOST) lost.push_back(name);
    if (worker.state() == v1::Worker::STATE_QUARANTINED) {
      findings.push_back(
          {Level::kWarning, "workers",
           fmt::format("{} is put aside until {}: {}", name,
                       AbsoluteTime(worker.quarantine_end_time()), worker.quarantine_reason()),
           "look at the worker's log; it is given tasks again by itself"});
    }
    if (IsConnected(worker) && worker.has_certificate_expire_time()) {
      Finding end =
          CheckExpiry("the certificate of " + name, ToTime(worker.certificate_expire_time()), now,
                      "workers that joined with a token renew theirs by themselves: look at "
                      "the worker's log; others get one by `espalier cert renew`");
      // A week is the whole life of those that renew themselves.
      const bool is_short = ToTime(worker.certificate_expire_time()) - now < absl::Hours(24);
      if (end.level == Level::kError || is_short) findings.push_back(std::move(end));
    }
  }
  if (active == 0) {
    findings.push_back({Level::kError, "workers", "no worker takes tasks",
                        "start some: espalier-worker --coordinator HOST:PORT --data-root DIR"});
  } else {
    findings.push_back(
        {Level::kOk, "workers",
         fmt::format("{} {} tasks", active, active == 1 ? "worker takes" : "workers take"), ""});
  }
  if (!lost.empty()) {
    findings.push_back({Level::kWarning, "workers",
                        fmt::format("vanished without a word in the last day: {}", Named(lost)),
                        "look at their machines and logs; those that were meant to go should get "
                        "SIGTERM, which leaves in order"});
  }
  return findings;
}

Findings CheckDatasets(const std::vector<v1::Worker>& workers) {
  Findings findings;
  std::set<std::string> usable;
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> problems;
  for (const v1::Worker& worker : workers) {
    if (!IsConnected(worker)) continue;
    for (const v1::DatasetInfo& dataset : worker.datasets()) {
      if (dataset.problem().empty()) {
        usable.insert(dataset.name());
      } else {
        problems[{dataset.name(), dataset.problem()}].push_back(ShortName(worker.name()));
      }
    }
  }
  for (const auto& [what, names] : problems) {
    findings.push_back(
        {Level::kWarning, "data sets",
         fmt::format("{} cannot be used at {}: {}", what.first, Named(names), what.second),
         "mend the files under the worker's data root; it looks again by itself"});
  }
  if (usable.empty() && findings.empty()) {
    findings.push_back({Level::kWarning, "data sets", "no worker offers a data set",
                        "put one into a folder under a worker's --data-root"});
  } else if (!usable.empty()) {
    findings.push_back({Level::kOk, "data sets",
                        "usable: " + Named(std::vector<std::string>(usable.begin(), usable.end())),
                        ""});
  }
  return findings;
}

Findings CheckJobs(const std::vector<v1::Job>& jobs) {
  Findings findings;
  for (const v1::Job& job : jobs) {
    if (HasEnded(job.state()) || job.conditions().empty()) continue;
    const v1::Condition& condition = job.conditions(0);
    findings.push_back({Level::kWarning, "jobs",
                        fmt::format("{} waits since {} ({})", ShortName(job.name()),
                                    AbsoluteTime(condition.since()), condition.type()),
                        condition.message()});
  }
  if (findings.empty()) findings.push_back({Level::kOk, "jobs", "no job waits", ""});
  return findings;
}

}  // namespace espalier::cli
