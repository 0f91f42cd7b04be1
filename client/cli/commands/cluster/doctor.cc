#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "client/cli/commands/commands.h"
#include "client/cli/doctor/findings.h"
#include "client/cli/doctor/reachability.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/base/version.h"
#include "common/rpc/address.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Look for what is wrong with a cluster, and say how to mend it

Looks at names, proxies, ports, certificates, clocks, versions, the coordinator's store, disk, memory and
files, workers, data sets and jobs that wait. Ends with 0 when there is nothing but warnings, and with 5
when something does not work.

Examples:
  espalier cluster doctor
  espalier cluster doctor --server train.example:7070 --tls-dir certificates/ada
  espalier cluster doctor -o json)";

constexpr size_t kMostWorkers = 10'000;
constexpr size_t kMostJobs = 1000;
constexpr absl::Duration kLongestCall = absl::Seconds(10);

using Level = Finding::Level;

void Add(Findings more, Findings& all) { std::ranges::move(more, std::back_inserter(all)); }

// A coordinator whose disk hangs does not answer this, and may answer all else.
void AskForSystem(client::Client& client, Findings& findings) {
  const absl::Time asked = absl::Now();
  const absl::StatusOr<v1::SystemInfo> system = client.GetSystem();
  const absl::Duration took = absl::Now() - asked;
  if (!system.ok()) {
    findings.push_back({Level::kError, "system", base::MessageOf(system.status()),
                        "look at the disk of the coordinator's data folder, and at its log"});
    return;
  }
  findings.push_back(CheckClock(ToTime(system->time()) - (asked + took / 2), took / 2));
  Add(CheckSystem(*system), findings);
}

// What only a coordinator that answers can tell.
absl::Status AskCoordinator(Context& context, Findings& findings) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const v1::Identity identity, client->WhoAmI());
  findings.push_back(CheckIdentity(identity));
  const absl::Time now = absl::Now();
  if (identity.has_expire_time()) {
    findings.push_back(CheckExpiry("what we show the coordinator", ToTime(identity.expire_time()),
                                   now, "get another certificate or token"));
  }
  ESPALIER_ASSIGN_OR_RETURN(const v1::ClusterInfo cluster, client->GetClusterInfo());
  if (cluster.has_certificate_expire_time()) {
    findings.push_back(CheckExpiry("the coordinator's certificate",
                                   ToTime(cluster.certificate_expire_time()), now,
                                   "`espalier cert renew` on the machine with the authority"));
  }
  AskForSystem(*client, findings);
  ESPALIER_ASSIGN_OR_RETURN(const auto listed, client->ListWorkers(kMostWorkers));
  const std::vector<v1::Worker> workers(listed.workers().begin(), listed.workers().end());
  Add(CheckVersions(std::string(base::Version()), cluster, workers), findings);
  Add(CheckWorkers(workers, now), findings);
  Add(CheckDatasets(workers), findings);
  v1::ListJobsRequest of_jobs;
  for (const v1::Job::State state : {v1::Job::STATE_PENDING, v1::Job::STATE_RUNNING}) {
    of_jobs.add_states(state);
  }
  ESPALIER_ASSIGN_OR_RETURN(const auto jobs, client->ListJobs(of_jobs, kMostJobs));
  Add(CheckJobs({jobs.jobs().begin(), jobs.jobs().end()}), findings);
  return absl::OkStatus();
}

void PrintFindings(const Context& context, const Findings& findings) {
  if (context.options.format != Format::kTable) {
    Json json;
    json["findings"] = Json::array();
    for (const Finding& finding : findings) {
      json["findings"].push_back({{"level", LevelWord(finding.level)},
                                  {"check", finding.check},
                                  {"found", finding.found},
                                  {"fix", finding.fix}});
    }
    PrintData(context.out, context.options.format, json);
    return;
  }
  Table table({{"LEVEL"}, {"CHECK"}, {"FOUND", false, 0, true}, {"WHAT TO DO", false, 0, true}});
  for (const Finding& finding : findings) {
    table.Add({LevelWord(finding.level), finding.check, base::Printable(finding.found),
               finding.fix.empty() ? "-" : base::Printable(finding.fix)});
  }
  table.Print(context.out, context.out_terminal);
}

absl::StatusOr<int> Doctor(Context& context) {
  client::ClientOptions& options = context.options.client;
  if (!context.options.timeout_given) options.timeout = kLongestCall;
  Findings findings = CheckThisMachine();
  ESPALIER_ASSIGN_OR_RETURN(const auto servers, rpc::ParseServers(options.server));
  for (const std::string& server : servers) Add(CheckServer(server), findings);
  Add(CheckOwnFiles(options, absl::Now()), findings);
  const absl::Status answered = AskCoordinator(context, findings);
  if (!answered.ok()) {
    findings.push_back(
        {Level::kError, "coordinator", base::MessageOf(answered),
         "mend what is said above; docs/reference/errors.md has " + base::ReasonOf(answered)});
  }
  // What is wrong comes first.
  std::ranges::stable_sort(findings, std::greater<>(), &Finding::level);
  PrintFindings(context, findings);
  if (absl::IsUnavailable(answered)) return kExitUnavailable;
  const bool is_wrong = findings.front().level == Level::kError;
  return is_wrong ? kExitPrecondition : kExitDone;
}

}  // namespace

void AddClusterDoctor(CLI::App& parent, Command& chosen) {
  parent.add_subcommand("doctor", kDescription)->callback([&chosen] { chosen = Doctor; });
}

}  // namespace espalier::cli
