// What `cluster doctor` finds in the coordinator's answers, and whether it says what to do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "client/cli/doctor/findings.h"
#include "client/cli/doctor/reachability.h"
#include "common/wire/proto_time.h"

namespace espalier::cli {
namespace {

using Level = Finding::Level;
using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::Field;
using testing::HasSubstr;
using testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

auto Is(Level level, const std::string& found) {
  return AllOf(Field(&Finding::level, level), Field(&Finding::found, HasSubstr(found)));
}

// Whatever is not in order says what to do.
void ExpectFixes(const Findings& findings) {
  for (const Finding& finding : findings) {
    EXPECT_EQ(finding.fix.empty(), finding.level == Level::kOk) << finding.found;
  }
}

v1::Worker Worker(const std::string& name, v1::Worker::State state) {
  v1::Worker worker;
  worker.set_name("workers/" + name);
  worker.set_state(state);
  worker.set_version("1.0.0");
  return worker;
}

v1::SystemInfo GoodSystem() {
  v1::SystemInfo system;
  system.set_store("sqlite");
  system.set_data_free_bytes(900);
  system.set_data_size_bytes(1000);
  system.set_open_files(10);
  system.set_max_open_files(1000);
  system.set_resident_bytes(10);
  system.set_memory_bytes(1000);
  system.set_jobs_in_work(1);
  system.set_max_jobs(1000);
  return system;
}

TEST(DoctorTest, ClocksThatDifferByMoreThanTheAnswerTook) {
  EXPECT_THAT(CheckClock(absl::Seconds(4), absl::Seconds(5)), Is(Level::kOk, "agree"));
  EXPECT_THAT(CheckClock(absl::Seconds(20), absl::Seconds(1)), Is(Level::kWarning, "ahead of"));
  EXPECT_THAT(CheckClock(-absl::Hours(3), absl::Seconds(1)), Is(Level::kError, "3h"));
  EXPECT_THAT(CheckClock(-absl::Hours(3), absl::Seconds(1)), Is(Level::kError, "behind"));
}

TEST(DoctorTest, CertificatesThatEndSoonOrHaveEnded) {
  const auto at = [](absl::Duration left) {
    return CheckExpiry("it", kNow + left, kNow, "renew it");
  };
  EXPECT_THAT(at(absl::Hours(24 * 90)), Is(Level::kOk, "ends in"));
  EXPECT_THAT(at(absl::Hours(24 * 3)), Is(Level::kWarning, "ends in"));
  EXPECT_THAT(at(-absl::Hours(2)), Is(Level::kError, "has ended 2h"));
  EXPECT_EQ(at(-absl::Hours(2)).fix, "renew it");
}

TEST(DoctorTest, WhoWeAreAlsoWithARoleOfALaterVersion) {
  v1::Identity identity;
  identity.set_name("ada");
  identity.set_source(v1::Identity::SOURCE_CERTIFICATE);
  identity.set_role(v1::ACCESS_ROLE_VIEWER);
  EXPECT_THAT(CheckIdentity(identity), Is(Level::kOk, "as ada with the role VIEWER"));
  identity.set_role(static_cast<v1::AccessRole>(99));
  EXPECT_THAT(CheckIdentity(identity), Is(Level::kOk, "as ada with the role (unknown)"));
}

TEST(DoctorTest, VersionsThatDiffer) {
  v1::ClusterInfo cluster;
  cluster.set_version("1.0.0");
  std::vector<v1::Worker> workers = {Worker("a", v1::Worker::STATE_ACTIVE),
                                     Worker("b", v1::Worker::STATE_ACTIVE),
                                     Worker("c", v1::Worker::STATE_LOST)};
  EXPECT_THAT(CheckVersions("1.0.0", cluster, workers), Each(Field(&Finding::level, Level::kOk)));
  workers[1].set_version("0.9.0");
  workers[2].set_version("0.8.0");
  const Findings findings = CheckVersions("1.1.0", cluster, workers);
  EXPECT_THAT(findings,
              Contains(Is(Level::kWarning, "this program is 1.1.0, the coordinator 1.0.0")));
  EXPECT_THAT(findings, Contains(Is(Level::kWarning, "workers of version 0.9.0")));
  EXPECT_THAT(findings, Not(Contains(Is(Level::kWarning, "0.8.0")))) << "that one is gone";
  ExpectFixes(findings);
}

TEST(DoctorTest, ASystemInOrderAndOneThatIsFull) {
  EXPECT_THAT(CheckSystem(GoodSystem()), Each(Field(&Finding::level, Level::kOk)));
  v1::SystemInfo full = GoodSystem();
  full.set_store_problem("no space left");
  full.set_data_free_bytes(5);
  full.set_open_files(850);
  full.set_resident_bytes(990);
  const Findings findings = CheckSystem(full);
  EXPECT_THAT(findings, Contains(Is(Level::kError, "no space left")));
  EXPECT_THAT(findings, Contains(Is(Level::kError, "free on the disk")));
  EXPECT_THAT(findings, Contains(Is(Level::kWarning, "850 of 1000 files")));
  EXPECT_THAT(findings, Contains(Is(Level::kError, "of memory")));
  ExpectFixes(findings);
  v1::SystemInfo forgetful = GoodSystem();
  forgetful.set_store("memory");
  EXPECT_THAT(CheckSystem(forgetful), Contains(Is(Level::kWarning, "memory alone")));
}

TEST(DoctorTest, WorkersThatAreMissing) {
  EXPECT_THAT(CheckWorkers({}, kNow), Contains(Is(Level::kError, "no worker takes tasks")));
  v1::Worker aside = Worker("b", v1::Worker::STATE_QUARANTINED);
  aside.set_quarantine_reason("three results were refused");
  v1::Worker ends = Worker("c", v1::Worker::STATE_ACTIVE);
  wire::SetTimestamp(kNow + absl::Hours(3), ends.mutable_certificate_expire_time());
  v1::Worker fresh = Worker("d", v1::Worker::STATE_ACTIVE);
  wire::SetTimestamp(kNow + absl::Hours(24 * 6), fresh.mutable_certificate_expire_time());
  const Findings findings =
      CheckWorkers({Worker("a", v1::Worker::STATE_LOST), aside, ends, fresh}, kNow);
  EXPECT_THAT(findings, Contains(Is(Level::kOk, "2 workers take tasks")));
  EXPECT_THAT(findings,
              Contains(Is(Level::kWarning, "vanished without a word in the last day: a")));
  EXPECT_THAT(findings, Contains(Is(Level::kWarning, "three results were refused")));
  EXPECT_THAT(findings, Contains(Is(Level::kWarning, "the certificate of c ends in 3h")));
  EXPECT_THAT(findings, Not(Contains(Field(&Finding::found, HasSubstr("certificate of d")))));
  ExpectFixes(findings);
}

TEST(DoctorTest, DataSetsThatCannotBeUsedAndWhere) {
  std::vector<v1::Worker> workers;
  for (int i = 0; i < 7; ++i) {
    v1::Worker& worker =
        workers.emplace_back(Worker("w" + std::to_string(i), v1::Worker::STATE_ACTIVE));
    worker.add_datasets()->set_name("good");
    v1::DatasetInfo& bad = *worker.add_datasets();
    bad.set_name("bad");
    bad.set_problem("line 7 has 3 columns, expected 4");
  }
  const Findings findings = CheckDatasets(workers);
  EXPECT_THAT(
      findings,
      Contains(Is(Level::kWarning, "bad cannot be used at w0, w1, w2, w3, w4 and 2 more: line 7")));
  EXPECT_THAT(findings, Contains(Is(Level::kOk, "usable: good")));
  ExpectFixes(findings);
  EXPECT_THAT(CheckDatasets({Worker("a", v1::Worker::STATE_ACTIVE)}),
              Contains(Is(Level::kWarning, "no worker offers a data set")));
}

TEST(DoctorTest, JobsThatWait) {
  v1::Job job;
  job.set_name("jobs/one");
  job.set_state(v1::Job::STATE_PENDING);
  EXPECT_THAT(CheckJobs({job}), Each(Field(&Finding::level, Level::kOk)));
  job.add_conditions()->set_type("WAITING_WORKERS");
  job.mutable_conditions(0)->set_message("waiting for 3 workers");
  EXPECT_THAT(CheckJobs({job}), Contains(Is(Level::kWarning, "one waits since")));
  EXPECT_EQ(CheckJobs({job}).front().fix, "waiting for 3 workers");
}

TEST(DoctorTest, ServersThatCannotBeReached) {
  EXPECT_THAT(CheckServer("no port"), Contains(Is(Level::kError, "")));
  EXPECT_THAT(CheckServer("nobody.invalid:7070"),
              Contains(Is(Level::kError, "nobody.invalid has no address")));
  EXPECT_THAT(CheckServer("127.0.0.1:1"), Contains(Is(Level::kError, "takes no connections")));
}

TEST(DoctorTest, FilesThatShowWhoWeAre) {
  client::ClientOptions options;
  EXPECT_THAT(CheckOwnFiles(options, kNow), Contains(Is(Level::kOk, "plain text")));
  options.tls_ca_file = "/nowhere/ca.pem";
  options.token_file = "/nowhere/token";
  const Findings findings = CheckOwnFiles(options, kNow);
  EXPECT_THAT(findings, Contains(Is(Level::kError, "/nowhere/ca.pem")));
  EXPECT_THAT(findings, Contains(Is(Level::kError, "our token /nowhere/token")));
  ExpectFixes(findings);
}

}  // namespace
}  // namespace espalier::cli
