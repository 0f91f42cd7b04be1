#include "client/dashboard/parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"

namespace espalier::dashboard {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Target Query(const std::string& query) { return *ParseTarget("/?" + query); }

std::string Fault(const absl::Status& status) { return base::MessageOf(status); }

TEST(ParametersTest, NumbersAreWholeAndWithinTheirRange) {
  EXPECT_EQ(*NumberAt(Query("n=7"), "n", 1, 10, 3), 7);
  EXPECT_EQ(*NumberAt(Query("n="), "n", 1, 10, 3), 3);
  EXPECT_EQ(*NumberAt(Query(""), "n", 1, 10, 3), 3);
  for (const char* text : {"0", "11", "-1", "1.5", "07", "1e1", "x", "99999999999999999999"}) {
    const auto number = NumberAt(Query(std::string("n=") + text), "n", 1, 10, 3);
    EXPECT_THAT(Fault(number.status()), HasSubstr("n: expected a whole number from 1 to 10"))
        << text;
  }
}

TEST(ParametersTest, AListOfJobsIsAskedForByTheQuery) {
  const auto request = ListJobsOf(Query(
      "page_size=5&page_token=t&state=RUNNING&state=PAUSED&method=set&contains=a&order=NAME"));
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->page_size(), 5);
  EXPECT_EQ(request->page_token(), "t");
  EXPECT_THAT(request->states(), ElementsAre(v1::Job::STATE_RUNNING, v1::Job::STATE_PAUSED));
  EXPECT_EQ(request->method(), "set");
  EXPECT_EQ(request->contains(), "a");
  EXPECT_EQ(request->order(), v1::ListJobsRequest::ORDER_NAME);
  EXPECT_THAT(Fault(ListJobsOf(Query("state=running")).status()), HasSubstr("state: expected"));
  EXPECT_THAT(Fault(ListJobsOf(Query("state=UNSPECIFIED")).status()), HasSubstr("state: expected"));
  EXPECT_THAT(Fault(ListJobsOf(Query("order=best")).status()), HasSubstr("order: expected"));
}

TEST(ParametersTest, AReaderThatComesBackSaysWhereItWas) {
  EXPECT_EQ(*AfterOf(Query("after=3"), ""), 3);
  EXPECT_EQ(*AfterOf(Query("after=3"), "9"), 9);
  EXPECT_EQ(*AfterOf(Query(""), ""), 0);
  EXPECT_FALSE(AfterOf(Query(""), "nine").ok());
}

TEST(ParametersTest, BodiesAreFlatObjects) {
  EXPECT_TRUE(ObjectOf("")->empty());
  EXPECT_TRUE(ObjectOf("{}")->empty());
  const std::string deep = "{\"a\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}";
  for (const std::string& body : {std::string("[]"), std::string("{"), std::string("nothing"),
                                  std::string("{\"a\":\"\xff\"}"), std::string("{} {}"), deep}) {
    EXPECT_EQ(base::ReasonOf(ObjectOf(body).status()), "BODY_INVALID") << body.substr(0, 20);
  }
}

TEST(ParametersTest, UnknownKeysAreNamed) {
  EXPECT_TRUE(ExpectNothing(*ObjectOf("{}")).ok());
  EXPECT_THAT(Fault(ExpectNothing(*ObjectOf("{\"force\":true}"))), HasSubstr("\"force\""));
  EXPECT_THAT(Fault(SubmissionOf(*ObjectOf("{\"file\":\"a\",\"id\":\"b\"}")).status()),
              HasSubstr("\"id\""));
}

TEST(ParametersTest, ASubmissionIsAFileAndHowToTakeIt) {
  const auto submission =
      SubmissionOf(*ObjectOf(R"({"file":"model: {}","job_id":"a","validate_only":true})"));
  ASSERT_TRUE(submission.ok());
  EXPECT_EQ(submission->file, "model: {}");
  EXPECT_EQ(submission->job_id, "a");
  EXPECT_TRUE(submission->validate_only);
  EXPECT_FALSE(SubmissionOf(*ObjectOf("{}")).ok());
  EXPECT_FALSE(SubmissionOf(*ObjectOf(R"({"file":1})")).ok());
  EXPECT_FALSE(SubmissionOf(*ObjectOf(R"({"file":"a","validate_only":"yes"})")).ok());
}

TEST(ParametersTest, AQuestionToARecommenderHasItsFields) {
  const auto request =
      RecommendOf(*ObjectOf(R"({"checkpoint":"checkpoints/a-1","user":"7","k":5,"dataset":"d"})"));
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->checkpoint(), "checkpoints/a-1");
  EXPECT_EQ(request->user(), "7");
  EXPECT_EQ(request->k(), 5);
  EXPECT_EQ(request->dataset(), "d");
  for (const char* k : {"-1", "1001", "1.5", "\"5\"", "99999999999999999999"}) {
    EXPECT_FALSE(RecommendOf(*ObjectOf(std::string("{\"k\":") + k + "}")).ok()) << k;
  }
}

}  // namespace
}  // namespace espalier::dashboard
