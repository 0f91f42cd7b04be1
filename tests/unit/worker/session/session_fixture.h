// A coordinator that holds acknowledgements and models back, and ends connections; and a worker's
// session with it.
//
// Threading: the coordinator's members may be called by any thread; the fixture is the test's.
#pragma once

#include <gmock/gmock.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/limits.h"
#include "common/rpc/status.h"
#include "common/wire/blob.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/proto_time.h"
#include "common/wire/topology_codec.h"
#include "common/wire/values_codec.h"
#include "tests/support/blob_map.h"
#include "tests/unit/worker/data/test_files.h"
#include "worker/session/session.h"

namespace espalier::worker::session {

inline constexpr auto kPatience = std::chrono::seconds(60);
// How often a call that is held back looks whether its caller has gone.
inline constexpr auto kPoll = std::chrono::milliseconds(5);

class FakeCoordinator final : public v1::WorkerService::Service {
 public:
  // Waits until `condition` holds of what has happened.
  void Await(const std::string& what, const std::function<bool()>& condition) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, kPatience, condition)) << what << " did not happen";
  }
  void AwaitEvent(const std::string& event) {
    Await(event, [&] { return Has(event); });
  }
  std::vector<std::string> events() {
    const std::lock_guard lock(mutex_);
    return events_;
  }
  // What happened first, of these.
  bool InOrder(const std::string& first, const std::string& second) {
    const std::vector<std::string> all = events();
    const auto it = std::find(all.begin(), all.end(), first);
    return it != all.end() && std::find(it, all.end(), second) != all.end() &&
           std::find(all.begin(), it, second) == it;
  }
  // Of the connections so far.
  std::vector<v1::Register> registrations() {
    const std::lock_guard lock(mutex_);
    return registrations_;
  }
  // What the worker said of a task that failed.
  std::string failure(const std::string& task) {
    const std::lock_guard lock(mutex_);
    return failures_[task];
  }
  // Asks what a data set is, and returns the answer.
  v1::DatasetInfo Describe(const std::string& dataset) {
    v1::CoordinatorMessage message;
    message.mutable_describe_dataset()->set_request_id(++questions_);
    message.mutable_describe_dataset()->mutable_data()->set_dataset(dataset);
    Send(message);
    AwaitEvent("answer " + std::to_string(questions_));
    const std::lock_guard lock(mutex_);
    return description_;
  }
  // Acknowledgements of this task, or the bytes with this digest, wait until Release().
  void Hold(const std::string& what) {
    const std::lock_guard lock(mutex_);
    held_.insert(what);
  }
  void Release(const std::string& what) {
    const std::lock_guard lock(mutex_);
    held_.erase(what);
    changed_.notify_all();
  }
  void Answer(const std::string& task, absl::Status status) {
    const std::lock_guard lock(mutex_);
    answers_[task] = std::move(status);
  }

  void Send(const v1::CoordinatorMessage& message) {
    const std::lock_guard lock(mutex_);
    ASSERT_NE(stream_, nullptr);
    stream_->Write(message);
  }
  void Give(const v1::Task& task) {
    v1::CoordinatorMessage message;
    *message.mutable_task() = task;
    Send(message);
  }
  void Cancel(const std::string& task) {
    v1::CoordinatorMessage message;
    message.mutable_cancel_task()->set_task_id(task);
    Send(message);
  }
  void SetDraining() {
    v1::CoordinatorMessage message;
    message.mutable_set_draining()->set_draining(true);
    Send(message);
  }
  // The worker has read all that it was sent before.
  void AwaitAnswer() {
    v1::CoordinatorMessage message;
    message.mutable_describe_dataset()->set_request_id(++questions_);
    Send(message);
    AwaitEvent("answer " + std::to_string(questions_));
  }
  // Ends the connection; returns when the worker is there again, with what it says then.
  v1::Register Reconnect() {
    const size_t before = registrations().size();
    {
      const std::lock_guard lock(mutex_);
      context_->TryCancel();
    }
    return AwaitRegistration(before);
  }
  // The worker is there again, after so many registrations.
  v1::Register AwaitRegistration(size_t before) {
    Await("another registration",
          [&] { return registrations_.size() > before && stream_ != nullptr; });
    return registrations().back();
  }
  // The worker says that it does this task, or none, and began to say so after this call.
  void AwaitHeartbeatOf(const std::string& task) {
    AwaitAnswer();
    {
      const std::lock_guard lock(mutex_);
      heartbeats_ = 0;
    }
    // One heartbeat may have been under way.
    Await("a heartbeat of " + task, [&] { return heartbeats_ > 1 && heartbeat_ == task; });
  }

  grpc::Status Session(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::CoordinatorMessage, v1::WorkerMessage>* stream) override {
    v1::WorkerMessage message;
    if (!stream->Read(&message)) return grpc::Status::OK;
    {
      const std::lock_guard lock(mutex_);
      v1::CoordinatorMessage answer;
      v1::Welcome& welcome = *answer.mutable_welcome();
      welcome.set_protocol(base::kProtocolMax);
      welcome.set_chunk_bytes(1 << 20);
      welcome.set_inline_bytes(1 << 20);
      welcome.set_session("session " + std::to_string(registrations_.size()));
      wire::SetDuration(absl::Minutes(5), welcome.mutable_transfer_timeout());
      wire::SetDuration(absl::Milliseconds(5), welcome.mutable_heartbeat_interval());
      stream->Write(answer);
      stream_ = stream;
      context_ = context;
      registrations_.push_back(message.register_());
      Happened("registration");
    }
    while (stream->Read(&message)) {
      const std::lock_guard lock(mutex_);
      if (message.has_heartbeat()) {
        heartbeat_ = message.heartbeat().task_id();
        ++heartbeats_;
      }
      if (message.has_drain()) Happened("drain");
      if (message.has_task_failed()) {
        failures_[message.task_failed().task_id()] = message.task_failed().message();
        Happened("failed " + message.task_failed().task_id() + " " +
                 message.task_failed().reason());
      }
      if (message.has_description()) {
        description_ = message.description().info();
        Happened("answer " + std::to_string(message.description().request_id()));
      }
      changed_.notify_all();
    }
    const std::lock_guard lock(mutex_);
    if (stream_ == stream) {
      stream_ = nullptr;
      context_ = nullptr;
    }
    Happened("end of a session");
    return grpc::Status::OK;
  }

  grpc::Status Fetch(grpc::ServerContext* context, const v1::FetchRequest* request,
                     grpc::ServerWriter<v1::Chunk>* writer) override {
    const std::string& digest = request->digest();
    std::unique_lock lock(mutex_);
    Happened("fetch " + digest);
    AwaitRelease(lock, *context, digest);
    writer->Write(wire::ChunkAt(blobs.by_digest.at(digest), 0, 1 << 20));
    return grpc::Status::OK;
  }

  grpc::Status Submit(grpc::ServerContext* context, grpc::ServerReader<v1::SubmitRequest>* reader,
                      v1::SubmitResponse*) override {
    v1::SubmitRequest request;
    v1::PartialHeader header;
    uint64_t bytes = 0;
    while (reader->Read(&request)) {
      if (request.has_header()) {
        header = request.header();
        reader->SendInitialMetadata();
      }
      bytes += request.chunk().data().size();
    }
    std::unique_lock lock(mutex_);
    // A worker that ended the call in between has sent nothing.
    if (bytes != header.body_bytes() || header.session() != SessionName()) {
      return {grpc::StatusCode::ABORTED, "no more"};
    }
    EXPECT_EQ(header.epoch().counter(), EpochOf(header.task_id()));
    EXPECT_EQ(++submissions_, 1) << "results are handed in one at a time";
    Happened("result " + header.task_id());
    const bool released = AwaitRelease(lock, *context, header.task_id());
    --submissions_;
    Happened((released ? "acknowledged " : "gone ") + header.task_id());
    return rpc::ToGrpc(answers_[header.task_id()]);
  }

  // The epoch of the tasks of a test follows from their ids.
  static uint64_t EpochOf(const std::string& task) { return std::hash<std::string>()(task); }

  test::BlobMap blobs;  // before the worker asks

 private:
  bool Has(const std::string& event) const {
    return std::find(events_.begin(), events_.end(), event) != events_.end();
  }
  void Happened(const std::string& event) {
    events_.push_back(event);
    changed_.notify_all();
  }
  std::string SessionName() const { return "session " + std::to_string(registrations_.size() - 1); }
  // False when the caller went away.
  bool AwaitRelease(std::unique_lock<std::mutex>& lock, grpc::ServerContext& context,
                    const std::string& what) {
    while (held_.contains(what) && !context.IsCancelled()) changed_.wait_for(lock, kPoll);
    return !held_.contains(what);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> events_;
  std::vector<v1::Register> registrations_;
  std::set<std::string> held_;
  std::map<std::string, std::string> failures_;  // messages, by task
  v1::DatasetInfo description_;
  std::map<std::string, absl::Status> answers_;
  std::string heartbeat_;
  int heartbeats_ = 0;
  int submissions_ = 0;
  uint64_t questions_ = 0;
  grpc::ServerReaderWriter<v1::CoordinatorMessage, v1::WorkerMessage>* stream_ = nullptr;
  grpc::ServerContext* context_ = nullptr;
};

class SessionTest : public ::testing::Test {
 protected:
  virtual SessionOptions Options() {
    SessionOptions options;
    options.worker_id = "w1";
    options.data_root = folder_.path();
    options.memory_limit = {std::numeric_limits<int64_t>::max(), "nothing"};
    return options;
  }

  void SetUp() override {
    folder_.Write("small/train.csv", "0,1,0\n1,0,1\n0.5,0.2,0\n0.1,0.9,1\n");
    grpc::ServerBuilder builder;
    builder.RegisterService(&coordinator_);
    server_ = builder.BuildAndStart();
    session_ = std::make_unique<Session>(
        Options(),
        std::vector<Coordinator>{
            {.address = "here", .connect = [this] { return server_->InProcessChannel({}); }}},
        metrics_);
    run_ = std::thread([this] { status_ = session_->Run(); });
    coordinator_.AwaitEvent("registration");
  }

  void TearDown() override {
    if (session_ != nullptr) session_->Stop();
    if (run_.joinable()) run_.join();
    session_.reset();
    server_->Shutdown();
  }

  void AwaitEndOfRun() {
    run_.join();
    EXPECT_EQ(status_, absl::OkStatus());
  }

  // A task on a model with `inputs` × 2 weights and two biases, which are all `value`.
  v1::Task TaskOf(const std::string& id, const std::string& participant, float value,
                  int inputs = 2) {
    v1::Task task;
    task.set_task_id(id);
    task.set_job("jobs/a");
    task.set_round(1);
    task.set_participant(participant);
    task.mutable_epoch()->set_counter(FakeCoordinator::EpochOf(id));
    v1::ModelRef& model = *task.mutable_model();
    model.mutable_spec()->set_input_features(inputs);
    v1::LinearLayer& layer = *model.mutable_spec()->add_layers()->mutable_linear();
    layer.set_units(2);
    layer.set_activation(v1::ACTIVATION_LINEAR);
    const auto layout = wire::LayoutOf(model.spec()).value();
    const auto topology =
        tensor::ModelTopology::Create(
            layout, std::vector<std::shared_ptr<const tensor::Topology>>(layout->size()))
            .value();
    model.set_topology_hash(topology.hash());
    *model.mutable_topology() =
        blobs_.Put(wire::EncodeTopology(topology).value().SerializeAsString());
    const std::vector<float> values(static_cast<size_t>(topology.total_stored()), value);
    *model.mutable_values() = blobs_.Put(std::string(wire::ValuesAsBytes(values)));
    for (v1::BlobRef* blob : {model.mutable_topology(), model.mutable_values()}) {
      blob->set_inline_(blobs_.at(*blob));
    }
    return task;
  }
  // Its result is there at once.
  v1::Task Quick(const std::string& id, const std::string& participant, float value = 1,
                 int inputs = 2) {
    v1::Task task = TaskOf(id, participant, value, inputs);
    task.mutable_echo();
    return task;
  }
  // Its values are fetched.
  v1::Task Fetched(const std::string& id, const std::string& participant, float value) {
    v1::Task task = Quick(id, participant, value);
    task.mutable_model()->mutable_values()->clear_inline_();
    coordinator_.blobs.by_digest[Digest(task)] = blobs_.at(task.model().values());
    return task;
  }
  // It takes about a second, and needs nothing of the coordinator in that time.
  v1::Task Slow(const std::string& id, const std::string& participant, int epochs = 100'000) {
    v1::Task task = TaskOf(id, participant, 1);
    task.mutable_data()->set_dataset("small");
    task.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_IID);
    task.mutable_data()->mutable_partition()->set_shards(1);
    task.mutable_train()->set_learning_rate(0.001);
    v1::Training& training = *task.mutable_train()->mutable_training();
    training.set_batch_size(1);
    training.set_local_epochs(epochs);
    training.mutable_optimizer()->set_kind(v1::Optimizer::KIND_SGD);
    return task;
  }
  static std::string Digest(const v1::Task& task) { return task.model().values().digest(); }

  // Task "a" is done and its result sent; the coordinator acknowledges it when "a" is released.
  void HandInWithoutAnAnswer() {
    coordinator_.Hold("a");
    coordinator_.Give(Quick("a", "p"));
    coordinator_.AwaitEvent("result a");
  }
  // Task "b" is in work, and waits for its model until the digest of that is released.
  v1::Task BeginBWithoutItsModel() {
    v1::Task task = Fetched("b", "q", 2);
    coordinator_.Hold(Digest(task));
    coordinator_.Give(task);
    coordinator_.AwaitEvent("fetch " + Digest(task));
    return task;
  }
  static v1::Task As(const std::string& id, v1::Task task) {
    task.set_task_id(id);
    task.mutable_epoch()->set_counter(FakeCoordinator::EpochOf(id));
    return task;
  }

  const data::DataFolder folder_;
  test::BlobMap blobs_;
  FakeCoordinator coordinator_;
  metrics::Metrics metrics_{metrics::Role::kWorker};
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Session> session_;
  absl::Status status_;
  std::thread run_;
};

}  // namespace espalier::worker::session
