// Answers that would be larger than one message of gRPC, over real connections.
#include "server/api/calls.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "client/lib/client.h"
#include "common/rpc/server.h"
#include "common/rpc/status.h"
#include "espalier/v1/job.grpc.pb.h"

namespace espalier::server::api {
namespace {

// Ten jobs of a megabyte each, and one of many large rounds.
class LargeJobs final : public v1::JobService::Service {
 public:
  static constexpr int kJobs = 10;
  static constexpr int kRounds = 1000;
  static constexpr int kFirstRound = 501;

  grpc::Status ListJobs(grpc::ServerContext*, const v1::ListJobsRequest* request,
                        v1::ListJobsResponse* response) override {
    const auto page = MakePage(request->page_size(), request->page_token(), kJobs);
    if (!page.ok()) return rpc::ToGrpc(page.status());
    const auto job = [](size_t i) {
      v1::Job job;
      job.set_name("jobs/" + std::to_string(i));
      job.mutable_spec()->set_display_name(std::string(base::kMaxSpecBytes, 'x'));
      return job;
    };
    FillPage(*page, job, response->mutable_jobs(), response);
    EXPECT_LE(response->ByteSizeLong(), base::kMaxMessageBytes);
    ++pages;
    return grpc::Status::OK;
  }

  grpc::Status GetJob(grpc::ServerContext*, const v1::GetJobRequest*, v1::Job* response) override {
    v1::Job job;
    for (int i = 0; i < kRounds; ++i) {
      v1::RoundSummary& round = *job.add_history();
      round.set_round(kFirstRound + i);
      round.add_layers()->set_name(std::string(20'000, 'x'));
    }
    *response = Fitting(std::move(job));
    return grpc::Status::OK;
  }

  int pages = 0;
};

class CallsTest : public ::testing::Test {
 protected:
  CallsTest() {
    rpc::ServerOptions server_options;
    server_options.listen = "127.0.0.1:0";
    running_ = rpc::StartServer(server_options, {&jobs_}).value();
    client::ClientOptions options;
    options.server = running_.address;
    client_ = client::Client::Create(options).value();
  }
  ~CallsTest() override { running_.server->Shutdown(); }

  LargeJobs jobs_;
  rpc::RunningServer running_;
  std::unique_ptr<client::Client> client_;
};

TEST_F(CallsTest, PagesEndBeforeTheyAreTooLargeAndLeadOn) {
  const auto jobs = client_->ListJobs({}, 1000);
  ASSERT_TRUE(jobs.ok()) << jobs.status();
  ASSERT_EQ(jobs->jobs_size(), LargeJobs::kJobs);
  for (int i = 0; i < LargeJobs::kJobs; ++i) {
    EXPECT_EQ(jobs->jobs(i).name(), "jobs/" + std::to_string(i));
  }
  EXPECT_EQ(jobs_.pages, 4);
}

TEST_F(CallsTest, OldRoundsThatDoNotFitAreLeftOutAndCounted) {
  const auto job = client_->GetJob("jobs/a");
  ASSERT_TRUE(job.ok()) << job.status();
  ASSERT_GT(job->history_size(), 100);
  EXPECT_EQ(job->history().rbegin()->round(), LargeJobs::kFirstRound + LargeJobs::kRounds - 1);
  EXPECT_EQ(job->history_left_out(), job->history(0).round() - 1);
}

TEST(FittingTest, WhatFitsStaysWhole) {
  v1::Job job;
  job.add_history()->set_round(1);
  job.add_history()->set_round(2);
  const v1::Job fitting = Fitting(job);
  EXPECT_EQ(fitting.history_size(), 2);
  EXPECT_EQ(fitting.history_left_out(), 0);
}

TEST(FittingTest, NewestRoundStaysWhateverItsSize) {
  v1::Job job;
  job.add_history()->set_round(1);
  job.add_history()->set_round(2);
  job.mutable_history(1)->add_layers()->set_name(std::string(base::kMaxMessageBytes, 'x'));
  const v1::Job fitting = Fitting(job);
  ASSERT_EQ(fitting.history_size(), 1);
  EXPECT_EQ(fitting.history_left_out(), 1);
}

}  // namespace
}  // namespace espalier::server::api
