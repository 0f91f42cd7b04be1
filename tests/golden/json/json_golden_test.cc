// What commands print for programs against files, see README.md.
#include <google/protobuf/text_format.h>
#include <grpcpp/server.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "client/cli/app.h"
#include "client/json/json.h"
#include "common/base/status.h"
#include "common/rpc/server.h"
#include "common/rpc/status.h"
#include "espalier/v1/access.grpc.pb.h"
#include "espalier/v1/checkpoint.grpc.pb.h"
#include "espalier/v1/cluster.grpc.pb.h"
#include "espalier/v1/job.grpc.pb.h"
#include "espalier/v1/method.grpc.pb.h"

namespace espalier::cli {
namespace {

template <typename Message>
Message Parsed(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message)) << text;
  return message;
}

// 2026-03-01T12:00:00.25Z and a while later.
constexpr char kTimes[] = R"(
  create_time { seconds: 1772366400 nanos: 250000000 }
  start_time { seconds: 1772366401 }
  end_time { seconds: 1772366431 nanos: 500000 }
)";

constexpr char kRound[] = R"(
  round: 2 participants: 2 examples: 1437 train_loss: 0.1782 test_loss: 0.02 test_accuracy: 0.95 main_metric: 0.95
  test_metrics { name: "recall@20" value: 0.25 }
  density: 0.1 active_weights: 28700 bytes_sent: 239410 bytes_received: 232960 dense_bytes: 4608160
  duration { nanos: 104000000 } weights_changed: 8610 explored: 0.13
  worker_peak_memory_bytes: 5368709120 train_flops: 742000000 dense_train_flops: 7.42e+20
  compute_time { seconds: 1 nanos: 500000000 }
  layers { name: "layers/0/weights" active: 28700 size: 287000 }
)";
constexpr char kFirstRound[] = R"(
  round: 1 participants: 2 examples: 1437 train_loss: 0.9957
  density: 0.1 active_weights: 28700 bytes_sent: 239410 bytes_received: 232960 dense_bytes: 4608160
  duration { nanos: 120000000 } explored: 0.1
)";

std::string JobText() {
  return std::string(R"(
    name: "jobs/digits" state: STATE_SUCCEEDED round: 2 best_metric: 0.95 best_round: 2
    latest_checkpoint: "checkpoints/digits-2" model_hash: "90f5" stored_parameters: 29710
    dense_parameters: 288010
    spec {
      display_name: "digits, set" seed: 1
      model { input_features: 64 layers { linear { units: 10 activation: ACTIVATION_SOFTMAX } } }
      data { dataset: "digits" test_fraction: 0.2 partition { kind: KIND_IID shards: 2 } }
      method {
        name: "set"
        parameters { key: "density" value { double_value: 0.1 } }
        parameters { key: "grown_weights" value { string_value: "zero" } }
      }
      training {
        batch_size: 32 local_epochs: 1
        optimizer { kind: KIND_SGD learning_rate: 0.05 momentum: 0.9 }
      }
      federation { rounds: 2 round_deadline { seconds: 600 } min_workers: 1 }
    }
    owner: "ada"
    left_out_workers { worker: "workers/w3" reason: "has other classes" }
    optimizer_start { checkpoint: "checkpoints/digits-first-5" steps: 500 }
  )") + kTimes +
         "history {" + kFirstRound + "} history {" + kRound + "}";
}

class Jobs final : public v1::JobService::Service {
 public:
  grpc::Status CreateJob(grpc::ServerContext*, const v1::CreateJobRequest*, v1::Job* job) override {
    *job = Parsed<v1::Job>(JobText());
    return grpc::Status::OK;
  }
  grpc::Status GetJob(grpc::ServerContext*, const v1::GetJobRequest* request,
                      v1::Job* job) override {
    if (request->name() == "jobs/absent") {
      return rpc::ToGrpc(
          base::NotFound("JOB_NOT_FOUND", "expected the name of a job, found 'jobs/absent'"));
    }
    *job = Parsed<v1::Job>(JobText());
    return grpc::Status::OK;
  }
  grpc::Status CancelJob(grpc::ServerContext*, const v1::CancelJobRequest*, v1::Job* job) override {
    *job = Parsed<v1::Job>(R"(name: "jobs/digits" state: STATE_CANCELLING round: 1)");
    return grpc::Status::OK;
  }
  grpc::Status ListJobs(grpc::ServerContext*, const v1::ListJobsRequest*,
                        v1::ListJobsResponse* response) override {
    *response->add_jobs() = Parsed<v1::Job>(
        R"(name: "jobs/waits" state: STATE_PENDING owner: "bob"
           conditions { type: "WAITING_WORKERS" message: "waiting for 4 workers"
                        since { seconds: 1772366400 } })");
    return grpc::Status::OK;
  }
  grpc::Status ListRounds(grpc::ServerContext*, const v1::ListRoundsRequest*,
                          v1::ListRoundsResponse* response) override {
    *response->add_rounds() = Parsed<v1::RoundSummary>(kFirstRound);
    *response->add_rounds() = Parsed<v1::RoundSummary>(kRound);
    response->set_total_rounds(2);
    return grpc::Status::OK;
  }
  grpc::Status WatchJob(grpc::ServerContext*, const v1::WatchJobRequest*,
                        grpc::ServerWriter<v1::WatchJobResponse>* writer) override {
    const std::string events[] = {
        "state_changed { state: STATE_RUNNING }",
        "round_started { round: 2 participants: 2 }",
        R"(task_reassigned { round: 2 participant: "shard-1" worker: "workers/w2"
                             reason: "WORKER_LOST" message: "no heartbeat for 10 s" })",
        R"(update_rejected { round: 2 participant: "shard-0" worker: "workers/w1"
                             reason: "NOT_FINITE" message: "a value is not finite" })",
        R"(quorum_missed { round: 2 arrived: 1 needed: 2 decision: "extend" })",
        R"(prelude_step { phase: "select_loss" candidate: 1 candidates: 2 loss: 0.5
                          bytes_sent: 10 bytes_received: 20 duration { seconds: 1 } })",
        R"(checkpoint_written { name: "checkpoints/digits-2" round: 2 size_bytes: 242424 })",
        std::string("round_committed { summary {") + kRound + "} }",
        "state_changed { state: STATE_SUCCEEDED }"};
    int64_t sequence = 0;
    for (const std::string& event : events) {
      v1::WatchJobResponse response;
      *response.mutable_event() = Parsed<v1::JobEvent>(event);
      response.mutable_event()->set_sequence(++sequence);
      response.mutable_event()->mutable_time()->set_seconds(1'772'366'400 + sequence);
      writer->Write(response);
    }
    return grpc::Status::OK;
  }
};

constexpr char kMethod[] = R"(
  name: "set" summary: "drops the weakest weights, grows as many at random places"
  source: "Mocanu et al. 2018, algorithm 2"
  parameters {
    name: "density" type: TYPE_DOUBLE range: "0 < x ≤ 1" doc: "Share of weights that exist."
  }
  parameters {
    name: "interval" type: TYPE_INT default_value { int_value: 1 } range: "≥ 1"
    doc: "Rounds between changes."
  }
  parameters {
    name: "grown_weights" type: TYPE_ENUM default_value { string_value: "zero" } range: "zero, random"
    doc: "Values that new weights begin with." choices: "zero" choices: "random"
  }
  families { family: "mlp" supported: true }
  families { family: "lightgcn" reason: "its tables have no layers" }
)";

class Methods final : public v1::MethodService::Service {
 public:
  grpc::Status ListMethods(grpc::ServerContext*, const v1::ListMethodsRequest*,
                           v1::ListMethodsResponse* response) override {
    *response->add_methods() = Parsed<v1::Method>(
        R"(name: "dense" summary: "federated averaging" source: "McMahan et al. 2017"
           dense_capable_workers: true)");
    return grpc::Status::OK;
  }
  grpc::Status DescribeMethod(grpc::ServerContext*, const v1::DescribeMethodRequest*,
                              v1::Method* method) override {
    *method = Parsed<v1::Method>(kMethod);
    return grpc::Status::OK;
  }
};

class Cluster final : public v1::ClusterService::Service {
 public:
  grpc::Status ListWorkers(grpc::ServerContext*, const v1::ListWorkersRequest*,
                           v1::ListWorkersResponse* response) override {
    *response->add_workers() = Parsed<v1::Worker>(R"(
      name: "workers/w1" state: STATE_ACTIVE version: "0.1.0" threads: 2 resident_bytes: 53477376
      register_time { seconds: 1772366400 } last_seen_time { seconds: 1772366402 nanos: 5000000 }
      tasks_completed: 12 tasks_failed: 1 flops_budget: 1e+12
      datasets {
        name: "wine" features: 13 classes: 3 train_examples: 178 format: "csv"
        label_column: "kind" delimiter: "comma" header: true
        columns { name: "alcohol" } class_names: "red" class_names: "white"
      })");
    *response->add_workers() = Parsed<v1::Worker>(R"(
      name: "workers/w2" state: STATE_QUARANTINED version: "0.1.0" threads: 2
      register_time { seconds: 1772366400 } last_seen_time { seconds: 1772366402 }
      tasks_failed: 3 quarantine_end_time { seconds: 1772366460 }
      quarantine_reason: "3 of its results within 1h were refused")");
    return grpc::Status::OK;
  }
  grpc::Status GetClusterInfo(grpc::ServerContext*, const v1::GetClusterInfoRequest*,
                              v1::ClusterInfo* info) override {
    *info = Parsed<v1::ClusterInfo>(R"(
      version: "0.1.0" protocol_min: 1 protocol_max: 1 start_time { seconds: 1772366400 }
      metrics_address: "http://127.0.0.1:7071/metrics" workers_active: 4 jobs_running: 1
      jobs_total: 3)");
    return grpc::Status::OK;
  }
};

class Checkpoints final : public v1::CheckpointService::Service {
 public:
  grpc::Status ListCheckpoints(grpc::ServerContext*, const v1::ListCheckpointsRequest*,
                               v1::ListCheckpointsResponse* response) override {
    *response->add_checkpoints() = Parsed<v1::Checkpoint>(R"(
      name: "checkpoints/digits-2" job: "jobs/digits" round: 2 size_bytes: 242424 sha256: "c0ffee"
      create_time { seconds: 1772366430 } main_metric: 0.95 main_metric_name: "accuracy" density: 0.1)");
    return grpc::Status::OK;
  }
  grpc::Status Recommend(grpc::ServerContext*, const v1::RecommendRequest*,
                         v1::RecommendResponse* response) override {
    *response = Parsed<v1::RecommendResponse>(
        R"(items { item: "42" score: 0.02 } items { item: "a \"film\"" score: 1 })");
    return grpc::Status::OK;
  }
};

class Access final : public v1::AccessService::Service {
 public:
  grpc::Status WhoAmI(grpc::ServerContext*, const v1::WhoAmIRequest*,
                      v1::Identity* response) override {
    *response = Parsed<v1::Identity>(R"(
      name: "ada" role: ACCESS_ROLE_SUBMITTER source: SOURCE_CERTIFICATE
      expire_time { seconds: 1780142400 })");
    return grpc::Status::OK;
  }
  grpc::Status CreateToken(grpc::ServerContext*, const v1::CreateTokenRequest*,
                           v1::CreateTokenResponse* response) override {
    *response = Parsed<v1::CreateTokenResponse>(R"(
      token { name: "tokens/k3v9qan2xy" kind: KIND_JOIN worker_id: "edge" any_suffix: true uses_left: 50
              create_time { seconds: 1772366400 } creator: "ada" expire_time { seconds: 1772452800 } }
      secret: "espalier-join-k3v9qan2xy-c0ffee")");
    return grpc::Status::OK;
  }
  grpc::Status ListTokens(grpc::ServerContext*, const v1::ListTokensRequest*,
                          v1::ListTokensResponse* response) override {
    *response = Parsed<v1::ListTokensResponse>(R"(
      tokens { name: "tokens/w5m2abc7qr" kind: KIND_USER user: "bob" role: ACCESS_ROLE_VIEWER
               create_time { seconds: 1772366400 } creator: "ada" expire_time { seconds: 1774958400 } })");
    return grpc::Status::OK;
  }
};

class JsonGoldenTest : public ::testing::Test {
 protected:
  JsonGoldenTest() {
    rpc::ServerOptions options;
    options.listen = "127.0.0.1:0";
    running_ =
        rpc::StartServer(options, {&jobs_, &methods_, &cluster_, &checkpoints_, &access_}).value();
  }
  ~JsonGoldenTest() override { running_.server->Shutdown(); }

  // What a command prints: on standard output, or as an error.
  std::string Printed(std::vector<std::string> arguments, const std::string& format) {
    arguments.insert(arguments.end(), {"--server", running_.address, "-o", format});
    std::ostringstream out;
    std::ostringstream err;
    const int code = RunCli(arguments, {out, err, {}, {}}, nullptr);
    return code == 0 ? out.str() : err.str();
  }

  static std::filesystem::path File(const std::string& name) {
    return std::filesystem::path(std::getenv("ESPALIER_SOURCE_DIR")) / "tests/golden/json" / name;
  }

  void Check(const std::string& file, const std::vector<std::string>& arguments) {
    const std::string printed = Printed(arguments, file.substr(file.rfind('.') + 1));
    if (std::getenv("ESPALIER_RENEW") != nullptr) std::ofstream(File(file)) << printed;
    std::ifstream stream(File(file));
    const std::string expected{std::istreambuf_iterator<char>(stream), {}};
    EXPECT_EQ(printed, expected)
        << File(file) << "; what is printed is a contract: where it grew, write it anew with "
        << "ESPALIER_RENEW=1 json_golden_test";
  }

 private:
  Jobs jobs_;
  Methods methods_;
  Cluster cluster_;
  Checkpoints checkpoints_;
  Access access_;
  rpc::RunningServer running_;
};

TEST_F(JsonGoldenTest, Jobs) {
  Check("job_get.json", {"job", "get", "digits"});
  Check("job_get.yaml", {"job", "get", "digits"});
  Check("job_spec.json", {"job", "get", "digits", "--spec"});
  Check("job_spec.yaml", {"job", "get", "digits", "--spec"});
  Check("job_list.json", {"job", "list"});
  Check("job_cancel.json", {"job", "cancel", "digits"});
  Check("job_rounds.json", {"job", "rounds", "digits"});
  Check("job_rounds.csv", {"job", "rounds", "digits"});
  Check("job_watch.json", {"job", "watch", "digits"});
}

TEST_F(JsonGoldenTest, MethodsWorkersAndCheckpoints) {
  Check("method_list.json", {"method", "list"});
  Check("method_describe.json", {"method", "describe", "set"});
  Check("worker_list.json", {"worker", "list"});
  Check("dataset_list.json", {"dataset", "list"});
  Check("checkpoint_list.json", {"checkpoint", "list"});
  Check("recommend.json", {"recommend", "digits-2", "--user", "7"});
  Check("cluster_status.json", {"cluster", "status"});
}

TEST_F(JsonGoldenTest, Access) {
  Check("user_whoami.json", {"user", "whoami"});
  Check("token_create.json", {"worker", "token", "create", "--prefix", "edge", "--uses", "50"});
  Check("token_list.json", {"user", "token", "list"});
}

TEST_F(JsonGoldenTest, Errors) { Check("error.json", {"job", "get", "absent"}); }

TEST_F(JsonGoldenTest, EveryFloatIsReadBackAsItself) {
  v1::RecommendResponse response;
  for (const float score : {0.1F, 0.02F, 1e-20F, 16'777'217.0F, 3.4028235e38F, 1.17549435e-38F}) {
    response.mutable_items()->Clear();
    response.add_items()->set_score(score);
    const Json json = Json::parse(ToJson(response));
    EXPECT_EQ(json["items"][0]["score"].get<float>(), score);
    EXPECT_LE(ToJson(json["items"][0]["score"]).size(), 17U);
  }
}

TEST_F(JsonGoldenTest, WholeNumbersKeepTheirSixtyFourBits) {
  v1::JobSpec spec;
  spec.set_seed(18'446'744'073'709'551'615U);
  EXPECT_NE(ToJson(spec).find("\"seed\": 18446744073709551615"), std::string::npos);
}

TEST_F(JsonGoldenTest, WhatIsNoNumberIsToldAsText) {
  v1::Metric metric;
  metric.set_value(std::numeric_limits<double>::infinity());
  EXPECT_EQ(JsonOf(metric)["value"], "Infinity");
  metric.set_value(-std::numeric_limits<double>::infinity());
  EXPECT_EQ(JsonOf(metric)["value"], "-Infinity");
  metric.set_value(std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(JsonOf(metric)["value"], "NaN");
}

TEST_F(JsonGoldenTest, DurationsAreSecondsWithTheirUnit) {
  const auto text = [](int64_t seconds, int32_t nanos) {
    v1::RoundSummary round;
    round.mutable_duration()->set_seconds(seconds);
    round.mutable_duration()->set_nanos(nanos);
    return JsonOf(round)["duration"].get<std::string>();
  };
  EXPECT_EQ(text(0, 0), "0s");
  EXPECT_EQ(text(90, 0), "90s");
  EXPECT_EQ(text(100, 500'000'000), "100.5s");
  EXPECT_EQ(text(0, 1), "0.000000001s");
  EXPECT_EQ(text(-1, -500'000'000), "-1.5s");
}

TEST_F(JsonGoldenTest, NumbersOfYamlAreNumbersInBothOfItsVersions) {
  v1::Optimizer optimizer;
  optimizer.set_epsilon(1e-8);
  EXPECT_NE(ToYaml(optimizer).find("epsilon: 1.0e-08\n"), std::string::npos);
  EXPECT_NE(ToJson(optimizer).find("\"epsilon\": 1e-08"), std::string::npos);
}

TEST_F(JsonGoldenTest, CsvIsForRoundsAlone) {
  const std::string refused = Printed({"job", "list"}, "csv");
  EXPECT_NE(refused.find("expected -o table, json or yaml, found csv"), std::string::npos)
      << refused;
  EXPECT_NE(refused.find("espalier job rounds"), std::string::npos);
}

}  // namespace
}  // namespace espalier::cli
