// FakeWorker: a worker in memory at the door of a coordinator's core: what a real one does over
// its stream, without a stream. It keeps the task it is given until the test finishes it, fails
// it, or lets the worker vanish. FakeTasks: how it does tasks.
//
// Training is a fixed rule: each value becomes 0.9 of itself plus an offset of the participant's,
// less a tenth of the task's correction.
// Threading:   one thread, the test's.
// Determinism: an update depends on its task alone, not on the worker.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/tensor/model.h"
#include "server/jobs/job_manager.h"
#include "server/round/blob_store.h"
#include "server/scheduler/fleet.h"

namespace espalier::test {

// An upload as it would be on the wire.
struct Update {
  v1::PartialHeader header;
  std::string body;
};

// What the coordinator said to an upload. Large ones are answered when the executors have run.
struct Answer {
  bool answered = false;
  bool duplicate = false;
  absl::Status status;
};

class FakeTasks {
 public:
  using Fetch = std::function<std::string(const v1::BlobRef&)>;
  // The blobs that Do() would fetch now.
  std::vector<v1::BlobRef> Needs(const v1::Task& task) const;
  // The result, but for its identity.
  Update Do(const v1::Task& task, const Fetch& fetch);

 private:
  // Whether the structure that is here becomes that of `ref` by its update.
  bool Updates(const v1::ModelRef& ref) const;
  void LoadStructure(const v1::ModelRef& ref, const Fetch& fetch);
  std::vector<float> Train(const v1::Task& task, const Fetch& fetch);

  std::shared_ptr<const tensor::ModelTopology> structure_;
};

// The digest of the body, and whose update it is.
void Identify(Update& update, const std::string& update_id,
              const server::scheduler::SessionKey& session);

class FakeWorker {
 public:
  virtual ~FakeWorker() = default;
  FakeWorker(std::string id, std::vector<std::string> datasets, server::scheduler::Fleet& fleet,
             server::jobs::JobManager& jobs, server::round::BlobStore& blobs);

  absl::Status Connect();
  // The connection breaks; the coordinator is told.
  void Vanish();
  void Heartbeat();
  void Leave();

  // The result of the present task, ready to be sent.
  virtual Update Compute();
  // A refused update leaves the task with the worker.
  std::shared_ptr<Answer> Send(const Update& update);
  // Computes and sends.
  std::shared_ptr<Answer> Finish() { return Send(Compute()); }
  void Fail(const std::string& reason, const std::string& message);

  const std::string& id() const { return id_; }
  bool connected() const { return link_ != nullptr && !link_->closed; }
  bool busy() const { return connected() && link_->task.has_value(); }
  const v1::Task& task() const { return *link_->task; }
  const server::scheduler::SessionKey& session() const { return session_; }
  // Over all connections.
  const std::vector<v1::Task>& received() const { return received_; }
  const std::vector<v1::CancelTask>& cancelled() const { return cancelled_; }
  // How often it was asked what a data set is.
  int asked() const { return asked_; }
  // Why the coordinator closed the last connection; OK when it did not.
  absl::Status close_status() const { return link_->close_status; }
  v1::DatasetInfo& dataset(int index) { return datasets_[index]; }
  // What the next Connect() declares.
  void SetDatasets(std::vector<v1::DatasetInfo> datasets) { datasets_ = std::move(datasets); }
  // What the next Connect() declares.
  void SetPolicy(std::optional<v1::WorkerPolicy> policy) { policy_ = std::move(policy); }
  // What the next Connect() declares.
  void SetBudgets(int64_t memory_bytes, double flops) {
    memory_budget_bytes_ = memory_bytes;
    flops_budget_ = flops;
  }

 protected:
  // What it says when it is asked what a data set is in a job's view.
  virtual v1::DatasetInfo Describe(const v1::DataSpec& view);
  // Its identity, and the digest of the body.
  void Complete(Update& update);
  std::string Fetch(const v1::BlobRef& ref);

 private:
  struct Link : public server::scheduler::WorkerLink {
    explicit Link(FakeWorker& worker) : worker(worker) {}
    void Send(const v1::CoordinatorMessage& message) override;
    void Close(const absl::Status& status) override;
    FakeWorker& worker;
    std::optional<v1::Task> task;
    bool closed = false;
    absl::Status close_status;
  };

  const std::string id_;
  std::vector<v1::DatasetInfo> datasets_;
  int64_t memory_budget_bytes_ = 0;
  double flops_budget_ = 0;
  std::optional<v1::WorkerPolicy> policy_;
  server::scheduler::Fleet& fleet_;
  server::jobs::JobManager& jobs_;
  server::round::BlobStore& blobs_;
  std::shared_ptr<Link> link_;
  server::scheduler::SessionKey session_;
  bool draining_ = false;  // as it was told
  int updates_ = 0;
  int asked_ = 0;
  std::vector<v1::Task> received_;
  std::vector<v1::CancelTask> cancelled_;
  FakeTasks tasks_;
};

}  // namespace espalier::test
