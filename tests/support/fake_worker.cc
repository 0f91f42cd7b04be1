#include "tests/support/fake_worker.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/io/sha256.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/train_additions.h"
#include "common/wire/topology_codec.h"
#include "common/wire/values_codec.h"

namespace espalier::test {

bool FakeTasks::Updates(const v1::ModelRef& ref) const {
  return structure_ != nullptr && ref.has_topology_update() &&
         structure_->hash() == ref.update_base_hash();
}

std::vector<v1::BlobRef> FakeTasks::Needs(const v1::Task& task) const {
  std::vector<v1::BlobRef> needs;
  if (task.has_recommend() || task.has_evaluate()) return needs;
  const v1::ModelRef& model = task.model();
  if (structure_ == nullptr || structure_->hash() != model.topology_hash()) {
    needs.push_back(Updates(model) ? model.topology_update() : model.topology());
  }
  needs.push_back(model.values());
  const v1::TrainAddition& addition =
      wire::AdditionOf(task.train(), v1::TrainAddition::kCorrection);
  if (addition.has_correction()) needs.push_back(addition.correction().values());
  return needs;
}

void FakeTasks::LoadStructure(const v1::ModelRef& ref, const Fetch& fetch) {
  if (structure_ != nullptr && structure_->hash() == ref.topology_hash()) return;
  if (Updates(ref)) {
    v1::TopologyUpdate update;
    ESPALIER_CHECK(update.ParseFromString(fetch(ref.topology_update())), "not a TopologyUpdate");
    structure_ = wire::ApplyTopologyUpdate(*structure_, update).value();
  } else {
    v1::FullTopology full;
    ESPALIER_CHECK(full.ParseFromString(fetch(ref.topology())), "not a FullTopology");
    structure_ = wire::DecodeTopology(full, wire::LayoutOf(ref.spec()).value()).value();
  }
  ESPALIER_CHECK(structure_->hash() == ref.topology_hash(), "a structure has another hash");
}

std::vector<float> FakeTasks::Train(const v1::Task& task, const Fetch& fetch) {
  LoadStructure(task.model(), fetch);
  std::vector<float> values =
      wire::DecodeValues(fetch(task.model().values()), structure_->total_stored()).value();
  const std::string& name = task.participant();
  const float offset = 0.001F * static_cast<float>(std::accumulate(name.begin(), name.end(), 0));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = 0.9F * values[i] + (i % 2 == 0 ? offset : -offset);
  }
  const v1::TrainAddition& addition =
      wire::AdditionOf(task.train(), v1::TrainAddition::kCorrection);
  if (addition.has_correction()) {
    const std::vector<float> correction =
        wire::DecodeValues(fetch(addition.correction().values()), values.size()).value();
    for (size_t i = 0; i < values.size(); ++i) values[i] -= 0.1F * correction[i];
  }
  return values;
}

Update FakeTasks::Do(const v1::Task& task, const Fetch& fetch) {
  Update update;
  v1::PartialHeader& header = update.header;
  header.set_task_id(task.task_id());
  *header.mutable_epoch() = task.epoch();
  header.set_topology_hash(task.model().topology_hash());
  header.set_examples(10 * (task.shard() + 1));
  header.set_loss_sum(0.1 * static_cast<double>(header.examples()));
  header.set_correct(header.examples() / 2);
  header.set_steps(std::max(1, task.train().training().local_steps()));
  if (task.has_recommend()) {
    header.set_examples(1);
    header.set_correct(0);
    for (int32_t i = 0; i < task.recommend().k(); ++i) {
      v1::RecommendedItem& item = *header.add_recommended();
      item.set_item("item-" + std::to_string(i) + "-for-" + task.recommend().user());
      item.set_score(static_cast<float>(-i));
    }
  } else if (task.has_evaluate()) {
    // Counts of nothing.
    *header.mutable_sections() = task.sections();
    for (v1::Section& section : *header.mutable_sections()) {
      section.clear_tensors();
      update.body.append(section.bytes(), '\0');
    }
  } else {
    const std::vector<float> values = Train(task, fetch);
    v1::Section& section = *header.add_sections();
    section.set_kind(v1::SECTION_KIND_VALUES);
    section.set_type(v1::SECTION_TYPE_F32);
    section.set_count(values.size());
    section.set_bytes(values.size() * sizeof(float));
    update.body = std::string(wire::ValuesAsBytes(values));
  }
  return update;
}

void Identify(Update& update, const std::string& update_id,
              const server::scheduler::SessionKey& session) {
  v1::PartialHeader& header = update.header;
  header.set_update_id(update_id);
  header.set_session(session);
  header.set_body_bytes(update.body.size());
  header.set_body_sha256(io::Sha256Hex(update.body));
}

void FakeWorker::Link::Send(const v1::CoordinatorMessage& message) {
  ESPALIER_CHECK(!closed, "the coordinator used a closed link");
  if (message.has_task()) {
    ESPALIER_CHECK(!task.has_value(), "a busy worker was given another task");
    task = message.task();
    worker.received_.push_back(message.task());
  }
  if (message.has_describe_dataset()) {
    ++worker.asked_;
    const v1::DescribeDataset& ask = message.describe_dataset();
    v1::DatasetDescription description;
    description.set_request_id(ask.request_id());
    *description.mutable_info() = worker.Describe(ask.data());
    worker.jobs_.Describe(worker.fleet_.SessionOf(worker.id_), std::move(description));
  }
  if (message.has_set_draining()) worker.draining_ = message.set_draining().draining();
  if (message.has_cancel_task()) {
    worker.cancelled_.push_back(message.cancel_task());
    if (task.has_value() && task->task_id() == message.cancel_task().task_id()) task.reset();
  }
}

void FakeWorker::Link::Close(const absl::Status& status) {
  closed = true;
  close_status = status;
}

FakeWorker::FakeWorker(std::string id, std::vector<std::string> datasets,
                       server::scheduler::Fleet& fleet, server::jobs::JobManager& jobs,
                       server::round::BlobStore& blobs)
    : id_(std::move(id)), fleet_(fleet), jobs_(jobs), blobs_(blobs) {
  for (const std::string& name : datasets) {
    v1::DatasetInfo info;
    info.set_name(name);
    datasets_.push_back(info);
  }
}

v1::DatasetInfo FakeWorker::Describe(const v1::DataSpec& view) {
  for (const v1::DatasetInfo& info : datasets_) {
    if (info.name() == view.dataset()) return info;
  }
  v1::DatasetInfo none;
  none.set_problem("there is no such data set");
  return none;
}

absl::Status FakeWorker::Connect() {
  v1::Register hello;
  hello.set_worker_id(id_);
  hello.mutable_protocol()->set_min(base::kProtocolMin);
  hello.mutable_protocol()->set_max(base::kProtocolMax);
  hello.mutable_datasets()->Assign(datasets_.begin(), datasets_.end());
  hello.set_memory_budget_bytes(memory_budget_bytes_);
  hello.set_flops_budget(flops_budget_);
  if (policy_.has_value()) *hello.mutable_policy() = *policy_;
  hello.set_draining(draining_);
  auto link = std::make_shared<Link>(*this);
  const auto session = fleet_.Register(hello, link);
  if (!session.ok()) return session.status();
  link_ = std::move(link);
  session_ = *session;
  return absl::OkStatus();
}

void FakeWorker::Vanish() {
  link_->closed = true;
  fleet_.Disconnected(session_);
}

void FakeWorker::Heartbeat() { fleet_.Heartbeat(session_, {}); }

void FakeWorker::Leave() {
  // Another process begins anew.
  const bool drained = draining_;
  fleet_.Leave(session_);
  draining_ = drained;
}

void FakeWorker::Fail(const std::string& reason, const std::string& message) {
  v1::TaskFailed failure;
  failure.set_task_id(task().task_id());
  *failure.mutable_epoch() = task().epoch();
  failure.set_reason(reason);
  failure.set_message(message);
  link_->task.reset();
  fleet_.TaskFailed(session_, failure);
}

std::string FakeWorker::Fetch(const v1::BlobRef& ref) {
  std::string data = ref.inline_();
  if (data.empty()) {
    const auto blob = blobs_.Get(ref.digest(), task().job());
    ESPALIER_CHECK(blob != nullptr, "a task names a blob that is gone");
    data = std::string(blob->bytes());
    blob->Charge(static_cast<int64_t>(data.size()));
  }
  ESPALIER_CHECK(io::Sha256Hex(data) == ref.digest(), "a blob has another digest");
  return data;
}

Update FakeWorker::Compute() {
  Update update = tasks_.Do(task(), [this](const v1::BlobRef& ref) { return Fetch(ref); });
  Complete(update);
  return update;
}

void FakeWorker::Complete(Update& update) {
  Identify(
      update,
      id_ + "-" + std::to_string(task().epoch().incarnation()) + "-" + std::to_string(++updates_),
      session_);
}

std::shared_ptr<Answer> FakeWorker::Send(const Update& update) {
  auto answer = std::make_shared<Answer>();
  const absl::StatusOr<bool> duplicate = jobs_.Admit(update.header);
  if (!duplicate.ok() || *duplicate) {
    answer->answered = true;
    answer->status = duplicate.status();
    answer->duplicate = duplicate.ok();
    return answer;
  }
  link_->task.reset();
  server::round::Upload upload;
  upload.header = update.header;
  const auto body = std::make_shared<std::string>(update.body);
  upload.body = [body](uint64_t offset, uint64_t size, const auto& sink) {
    return sink(std::string_view(*body).substr(offset, size));
  };
  jobs_.Accept(std::move(upload), [answer](const absl::Status& status) {
    answer->answered = true;
    answer->status = status;
  });
  return answer;
}

}  // namespace espalier::test
