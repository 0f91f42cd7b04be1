#include "client/dashboard/routes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace espalier::dashboard {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

Routing Find(const char* method, const char* path) { return FindRoute(method, *ParseTarget(path)); }

TEST(RoutesTest, IdsComeFromThePath) {
  const Routing job = Find("GET", "/api/v1/jobs/my-job/rounds");
  ASSERT_TRUE(job.route.has_value());
  EXPECT_EQ(job.route->call, Call::kListRounds);
  EXPECT_EQ(job.route->id, "my-job");
  EXPECT_EQ(Find("POST", "/api/v1/workers/w%201/drain").route->id, "w 1");
}

TEST(RoutesTest, OnePathHasOneCallForEachMethod) {
  EXPECT_EQ(Find("GET", "/api/v1/jobs").route->call, Call::kListJobs);
  EXPECT_EQ(Find("POST", "/api/v1/jobs").route->call, Call::kCreateJob);
  const Routing other = Find("DELETE", "/api/v1/jobs");
  EXPECT_FALSE(other.route.has_value());
  EXPECT_THAT(other.allowed, UnorderedElementsAre("GET", "POST"));
}

TEST(RoutesTest, OtherMethodsAreTold) {
  EXPECT_THAT(Find("POST", "/api/v1/cluster").allowed, ElementsAre("GET"));
  EXPECT_THAT(Find("GET", "/api/v1/jobs/a/cancel").allowed, ElementsAre("POST"));
}

TEST(RoutesTest, UnknownPathsHaveNoCall) {
  for (const char* path : {"/api", "/api/v1", "/api/v2/jobs", "/api/v1/jobs/a/b/c",
                           "/api/v1/jobs//rounds", "/api/v1/nothing", "/jobs", "/API/v1/jobs"}) {
    const Routing routing = Find("GET", path);
    EXPECT_FALSE(routing.route.has_value()) << path;
    EXPECT_THAT(routing.allowed, IsEmpty()) << path;
  }
}

TEST(RoutesTest, PathsWithoutDotsAreViewsOfThePage) {
  for (const char* path : {"/", "/jobs", "/jobs/my-job/rounds/3", "/compare?jobs=a.b,c.d"}) {
    EXPECT_TRUE(IsPage(*ParseTarget(path))) << path;
  }
  for (const char* path : {"/favicon.ico", "/assets/app.js", "/api/v1/jobs", "/a.b/c"}) {
    EXPECT_FALSE(IsPage(*ParseTarget(path))) << path;
  }
}

TEST(RoutesTest, WhatIsPostedIsAnAction) {
  for (const Call call :
       {Call::kCreateJob, Call::kCancelJob, Call::kDrainWorker, Call::kRecommend}) {
    EXPECT_TRUE(IsAction(call));
  }
  for (const Call call : {Call::kListJobs, Call::kGetSession, Call::kWatchJob}) {
    EXPECT_FALSE(IsAction(call));
  }
}

}  // namespace
}  // namespace espalier::dashboard
