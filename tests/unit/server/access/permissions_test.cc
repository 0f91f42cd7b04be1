// The table of calls and roles against what the services have.
#include "server/access/permissions.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "common/base/status.h"
#include "espalier/v1/access.pb.h"
#include "espalier/v1/checkpoint.pb.h"
#include "espalier/v1/cluster.pb.h"
#include "espalier/v1/events.pb.h"
#include "espalier/v1/job.pb.h"
#include "espalier/v1/method.pb.h"
#include "espalier/v1/predict.pb.h"
#include "espalier/v1/progress.pb.h"
#include "espalier/v1/structure.pb.h"
#include "espalier/v1/system.pb.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::server::access {
namespace {

std::set<std::string> CallsOf(const google::protobuf::FileDescriptor* file) {
  std::set<std::string> calls;
  for (int i = 0; i < file->service_count(); ++i) {
    for (int j = 0; j < file->service(i)->method_count(); ++j) {
      calls.insert(std::string(file->service(i)->method(j)->name()));
    }
  }
  return calls;
}

Caller Of(pki::Role role) {
  return {.source = Caller::Source::kCertificate, .role = role, .name = "ada"};
}

TEST(PermissionsTest, EveryCallOfTheServicesIsInTheTableOnceAndNoOther) {
  std::multiset<std::string> calls;
  for (const auto* file :
       {v1::Job::descriptor()->file(), v1::Method::descriptor()->file(),
        v1::Worker::descriptor()->file(), v1::Checkpoint::descriptor()->file(),
        v1::PredictRequest::descriptor()->file(), v1::Task::descriptor()->file(),
        v1::Token::descriptor()->file(), v1::Topology::descriptor()->file(),
        v1::NamedEvent::descriptor()->file(), v1::RoundProgress::descriptor()->file(),
        v1::SystemInfo::descriptor()->file()}) {
    for (const std::string& call : CallsOf(file)) calls.insert(call);
  }
  std::multiset<std::string> table;
  for (const Permission& permission : Permissions()) table.insert(std::string(permission.call));
  EXPECT_EQ(table, calls);
}

TEST(PermissionsTest, RefusalSaysWhoMayAndWhoAsked) {
  EXPECT_TRUE(Allow(Of(pki::Role::kSubmitter), "CreateJob").ok());
  const absl::Status refused = Allow(Of(pki::Role::kViewer), "CreateJob");
  EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(base::ReasonOf(refused), "ROLE_NOT_ALLOWED");
  EXPECT_THAT(base::MessageOf(refused),
              testing::HasSubstr("the role admin or submitter for CreateJob, found 'ada' with the "
                                 "role viewer"));
}

TEST(PermissionsTest, ACallThatIsNotInTheTableIsNobodys) {
  for (const pki::Role role : pki::kRoles) EXPECT_FALSE(Allow(Of(role), "MadeUp").ok());
}

TEST(PermissionsTest, PeopleAreNotWorkersNorWorkersPeople) {
  for (const Permission& permission : Permissions()) {
    if (permission.roles.size() == std::size(pki::kRoles)) continue;
    EXPECT_EQ(permission.roles.contains(pki::Role::kWorker),
              permission.roles.size() == 1 && !permission.roles.contains(pki::Role::kAdmin))
        << permission.call;
    EXPECT_FALSE(permission.roles.contains(pki::Role::kCoordinator)) << permission.call;
  }
}

TEST(PermissionsTest, WhatAViewerMayDoChangesNothing) {
  for (const Permission& permission : Permissions()) {
    if (!permission.roles.contains(pki::Role::kViewer) || permission.anybody) continue;
    EXPECT_FALSE(permission.audited) << permission.call;
  }
}

TEST(PermissionsTest, InAnOpenClusterEverybodyMayDoEverything) {
  EXPECT_TRUE(Allow(Caller(), "RevokeToken").ok());
  EXPECT_TRUE(Allow(Caller(), "Session").ok());
}

}  // namespace
}  // namespace espalier::server::access
