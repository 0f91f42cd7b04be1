#include "client/lib/client.h"

#include <gmock/gmock.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "common/base/status.h"
#include "common/io/crc32c.h"
#include "common/io/sha256.h"
#include "common/rpc/status.h"
#include "espalier/v1/checkpoint.grpc.pb.h"
#include "espalier/v1/job.grpc.pb.h"

namespace espalier::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A job with six events; the stream breaks after every second one, by the connection or because the
// watcher was too slow.
class FlakyJobs : public v1::JobService::Service {
 public:
  grpc::Status CreateJob(grpc::ServerContext*, const v1::CreateJobRequest*, v1::Job*) override {
    v1::FieldViolation violation;
    violation.set_field("spec.federation.rounds");
    violation.set_description("must be 1..1,000,000, found 0");
    return rpc::ToGrpc(rpc::WithViolations(
        base::InvalidArgument("JOB_INVALID", "the job has 1 problem"), {violation}));
  }

  grpc::Status WatchJob(grpc::ServerContext*, const v1::WatchJobRequest* request,
                        grpc::ServerWriter<v1::WatchJobResponse>* writer) override {
    constexpr int kEvents = 6;
    {
      const std::lock_guard lock(mutex_);
      resumed_after_.push_back(request->after_sequence());
    }
    int sent = 0;
    for (int64_t i = request->after_sequence() + 1; i <= kEvents; ++i) {
      if (sent++ == 2) {
        return i == 3 ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "lost")
                      : grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "too slow");
      }
      v1::WatchJobResponse response;
      response.mutable_event()->set_sequence(i);
      writer->Write(response);
    }
    return grpc::Status::OK;
  }

  grpc::Status ListJobs(grpc::ServerContext*, const v1::ListJobsRequest* request,
                        v1::ListJobsResponse* response) override {
    constexpr int kJobs = 5;
    constexpr int kPage = 2;
    const int first = request->page_token().empty() ? 0 : std::stoi(request->page_token());
    const int end = std::min({kJobs, first + kPage, first + request->page_size()});
    for (int i = first; i < end; ++i) response->add_jobs()->set_name("jobs/" + std::to_string(i));
    if (end < kJobs) response->set_next_page_token(std::to_string(end));
    return grpc::Status::OK;
  }

  // Rounds 1 to 5, two on a page; of max_points the last ones.
  grpc::Status ListRounds(grpc::ServerContext*, const v1::ListRoundsRequest* request,
                          v1::ListRoundsResponse* response) override {
    constexpr int kRounds = 5;
    constexpr int kPage = 2;
    const int most = request->max_points() == 0 ? kRounds : request->max_points();
    int first = kRounds - most + 1;
    if (!request->page_token().empty()) first = std::stoi(request->page_token());
    for (int i = first; i <= std::min(kRounds, first + kPage - 1); ++i) {
      response->add_rounds()->set_round(i);
    }
    if (first + kPage <= kRounds) response->set_next_page_token(std::to_string(first + kPage));
    response->set_total_rounds(kRounds);
    return grpc::Status::OK;
  }

  std::vector<int64_t> resumed_after() {
    const std::lock_guard lock(mutex_);
    return resumed_after_;
  }

 private:
  std::mutex mutex_;
  std::vector<int64_t> resumed_after_;
};

// A file of ten bytes in chunks of three; the stream breaks after each chunk.
class FlakyCheckpoints : public v1::CheckpointService::Service {
 public:
  static constexpr char kBytes[] = "0123456789";

  // A ticket is good for one attempt here, as if the coordinator was started anew in between.
  grpc::Status GetCheckpoint(grpc::ServerContext*, const v1::GetCheckpointRequest*,
                             v1::Checkpoint* checkpoint) override {
    ticket_ += "x";
    checkpoint->set_download_ticket(ticket_);
    return grpc::Status::OK;
  }

  grpc::Status DownloadCheckpoint(grpc::ServerContext*,
                                  const v1::DownloadCheckpointRequest* request,
                                  grpc::ServerWriter<v1::Chunk>* writer) override {
    if (request->ticket() != ticket_) return {grpc::StatusCode::PERMISSION_DENIED, "old ticket"};
    constexpr size_t kChunk = 3;
    const std::string bytes(kBytes);
    v1::Chunk chunk;
    chunk.set_offset(request->offset());
    chunk.set_data(bytes.substr(request->offset(), kChunk));
    chunk.set_crc32c(io::Crc32c(chunk.data()));
    writer->Write(chunk);
    if (request->offset() + kChunk >= bytes.size()) return grpc::Status::OK;
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "lost");
  }

 private:
  std::string ticket_;
};

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&jobs_);
    builder.RegisterService(&checkpoints_);
    server_ = builder.BuildAndStart();
    ClientOptions options;
    options.server = "127.0.0.1:" + std::to_string(port);
    client_ = *Client::Create(options);
  }

  FlakyJobs jobs_;
  FlakyCheckpoints checkpoints_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Client> client_;
};

TEST_F(ClientTest, BrokenWatchIsResumedAfterTheLastEvent) {
  std::vector<int64_t> seen;
  int broken = 0;
  const absl::Status status = client_->WatchJob(
      "jobs/a", 0, [&](const v1::JobEvent& event) { seen.push_back(event.sequence()); },
      [&](const absl::Status&) { ++broken; }, std::stop_token());
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(seen, ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(jobs_.resumed_after(), ElementsAre(0, 2, 4));
  EXPECT_EQ(broken, 1);  // a watcher that was too slow lost no connection
}

TEST_F(ClientTest, WatchEndsWhenStopIsRequested) {
  std::stop_source stop;
  const absl::Status status = client_->WatchJob(
      "jobs/a", 0, [&](const v1::JobEvent&) { stop.request_stop(); }, [](const absl::Status&) {},
      stop.get_token());
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
}

TEST_F(ClientTest, ErrorCarriesReasonAndViolations) {
  const absl::Status status = client_->CreateJob(v1::CreateJobRequest()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(base::ReasonOf(status), "JOB_INVALID");
  const auto violations = ViolationsOf(status);
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].field, "federation.rounds");
}

TEST_F(ClientTest, ListsAreReadToTheirEndOrLimit) {
  EXPECT_EQ(client_->ListJobs({}, 1000)->jobs_size(), 5);
  EXPECT_EQ(client_->ListJobs({}, 3)->jobs_size(), 3);
}

TEST_F(ClientTest, RoundsAreReadToTheirEnd) {
  const auto all = client_->ListRounds("jobs/a", 0);
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_EQ(all->rounds_size(), 5);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(all->rounds(i).round(), i + 1);
  EXPECT_EQ(all->total_rounds(), 5);
  EXPECT_EQ(all->next_page_token(), "");
  const auto some = client_->ListRounds("jobs/a", 3);
  ASSERT_TRUE(some.ok()) << some.status();
  EXPECT_EQ(some->rounds_size(), 3);
  EXPECT_EQ(some->rounds(0).round(), 3);
  EXPECT_EQ(some->total_rounds(), 5);
}

TEST_F(ClientTest, BrokenDownloadIsContinuedAndVerified) {
  std::string folder = (std::filesystem::temp_directory_path() / "client-test-XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  v1::Checkpoint checkpoint;
  checkpoint.set_name("checkpoints/a-1");
  checkpoint.set_size_bytes(10);
  checkpoint.set_sha256(io::Sha256Hex(FlakyCheckpoints::kBytes));
  std::vector<int64_t> progress;
  const absl::Status status = client_->DownloadCheckpoint(
      checkpoint, folder + "/model", [&](int64_t bytes) { progress.push_back(bytes); },
      std::stop_token());
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(progress, ElementsAre(3, 6, 9, 10));
  std::string text;
  std::ifstream(folder + "/model") >> text;
  EXPECT_EQ(text, FlakyCheckpoints::kBytes);
  std::filesystem::remove_all(folder);
}

TEST_F(ClientTest, AbsentCoordinatorIsExplained) {
  server_->Shutdown();
  const absl::Status status = client_->GetJob("jobs/a").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(base::ReasonOf(status), "COORDINATOR_UNREACHABLE");
  EXPECT_THAT(base::MessageOf(status), HasSubstr("espalier up"));
}

TEST(ClientOptionsTest, BadOptionsAreRefusedBeforeConnecting) {
  ClientOptions no_port;
  no_port.server = "localhost";
  EXPECT_EQ(base::ReasonOf(Client::Create(no_port).status()), "SERVER_ADDRESS");
  ClientOptions half_pair;
  half_pair.tls_cert_file = "x.pem";
  EXPECT_EQ(base::ReasonOf(Client::Create(half_pair).status()), "TLS_PAIR_INCOMPLETE");
  ClientOptions unreadable;
  unreadable.tls_ca_file = "/nonexistent.pem";
  EXPECT_EQ(base::ReasonOf(Client::Create(unreadable).status()), "TLS_FILE_UNREADABLE");
}

}  // namespace
}  // namespace espalier::client
