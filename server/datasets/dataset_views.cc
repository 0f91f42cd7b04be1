#include "server/datasets/dataset_views.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/config/validate.h"
#include "server/scheduler/worker_words.h"

namespace espalier::server::datasets {
namespace {

constexpr char kNotYet[] = "the worker has not described its data set yet";

bool HasFolder(const v1::Worker& worker, const std::string& dataset) {
  return scheduler::FindDataset(worker, dataset) != nullptr;
}

}  // namespace

v1::DataSpec ViewOf(const v1::JobSpec& spec) {
  v1::JobSpec complete;
  *complete.mutable_data() = spec.data();
  // Interactions belong to recommenders even where the job says nothing of them.
  *complete.mutable_model() = spec.model();
  config::ApplyDefaults(complete);
  const v1::DataSpec& data = complete.data();
  v1::DataSpec view;
  view.set_dataset(data.dataset());
  view.set_format(data.format());
  view.set_label_column(data.label_column());
  view.set_delimiter(data.delimiter());
  view.set_header(data.header());
  view.set_missing(data.missing());
  view.set_words(data.words());
  // A class is what is read without a word.
  if (data.target() != v1::DataSpec::TARGET_CLASS) view.set_target(data.target());
  *view.mutable_target_columns() = data.target_columns();
  if (data.has_image_size()) *view.mutable_image_size() = data.image_size();
  if (data.partition().kind() == v1::Partition::KIND_LOCAL) {
    view.mutable_partition()->set_kind(v1::Partition::KIND_LOCAL);
  }
  if (data.has_interactions()) *view.mutable_interactions() = data.interactions();
  if (data.has_text()) *view.mutable_text() = data.text();
  return view;
}

const v1::DatasetInfo* JobView::Find(const std::string& worker) const {
  const auto it = workers_.find(worker);
  return it == workers_.end() || !it->second.deviation.empty() ? nullptr : &it->second.info;
}

std::map<std::string, std::string> JobView::LeftOut() const {
  std::map<std::string, std::string> reasons;
  for (const std::string& worker : asked_) reasons[worker] = kNotYet;
  for (const auto& [worker, entry] : workers_) {
    if (!entry.deviation.empty()) reasons[worker] = entry.deviation;
  }
  return reasons;
}

DatasetViews::DatasetViews(scheduler::Fleet& fleet, base::Executor& core, const base::Clock& clock,
                           const base::Limits& limits)
    : fleet_(fleet), core_(core), clock_(clock), limits_(limits) {
  fleet_.on_registered = [this](const std::string& worker) { WorkerRegistered(worker); };
}

void DatasetViews::Send(const std::string& worker, Request request) {
  Line& line = lines_[worker];
  const scheduler::SessionKey session = fleet_.SessionOf(worker);
  if (line.session != session) {
    line = {};
    line.session = session;
  }
  line.waiting.push_back(std::move(request));
  Advance(worker, line);
}

void DatasetViews::Advance(const std::string& worker, Line& line) {
  while (line.sent.size() < kMaxSent && !line.waiting.empty()) {
    Request request = std::move(line.waiting.front());
    line.waiting.pop_front();
    if (request.question.expired() && request.job.expired()) continue;
    v1::CoordinatorMessage message;
    v1::DescribeDataset& ask = *message.mutable_describe_dataset();
    ask.set_request_id(next_request_);
    *ask.mutable_data() = request.view;
    line.sent[next_request_++] = std::move(request);
    fleet_.Tell(worker, message);
  }
}

bool DatasetViews::Ask(const v1::DataSpec& view, const config::JobTraits& job, Done done) {
  if (questions_.size() >= kMaxQuestions) return false;
  const auto question = std::make_shared<Question>();
  question->view = view;
  question->job = job;
  question->deadline = clock_.Elapsed() + limits_.describe_timeout;
  question->done = std::move(done);
  std::vector<std::string> workers;
  for (const v1::Worker& worker : fleet_.List()) {
    if (!scheduler::IsConnected(worker) || !HasFolder(worker, view.dataset())) continue;
    const std::string id = scheduler::WorkerId(worker);
    if (std::string refused = fleet_.RefusedBy(id, job); !refused.empty()) {
      question->answer.refusing[id] = std::move(refused);
    } else {
      workers.push_back(id);
    }
  }
  for (const std::string& worker : workers) {
    if (late_.contains(fleet_.SessionOf(worker))) {
      question->answer.silent.insert(worker);
    } else {
      question->waiting.insert(worker);
    }
  }
  questions_.push_back(question);
  // Those that were late are asked as well: an answer makes them count again.
  for (const std::string& worker : workers) Send(worker, {.view = view, .question = question});
  EndIfComplete(question);
  return true;
}

void DatasetViews::EndIfComplete(const std::shared_ptr<Question>& question) {
  if (!question->waiting.empty() || question->done == nullptr) return;
  const Done done = std::exchange(question->done, nullptr);
  questions_.remove(question);
  done(std::move(question->answer));
}

std::string WhyRefusing(const std::string& refused) {
  return "its policy does not allow " + refused;
}

std::shared_ptr<JobView> DatasetViews::Follow(const v1::DataSpec& view,
                                              const config::JobTraits& job, Judge judge,
                                              const Descriptions& described) {
  auto followed = std::make_shared<JobView>();
  followed->view_ = view;
  followed->job_ = job;
  followed->judge_ = std::move(judge);
  for (const auto& [worker, info] : described) Enter(*followed, worker, info);
  std::erase_if(views_, [](const auto& weak) { return weak.expired(); });
  views_.push_back(followed);
  for (const v1::Worker& worker : fleet_.List()) {
    const std::string id = scheduler::WorkerId(worker);
    const bool asks = scheduler::IsConnected(worker) && !described.contains(id) &&
                      HasFolder(worker, view.dataset());
    if (!asks || EnterIfRefusing(*followed, id)) continue;
    followed->asked_.insert(id);
    Send(id, {.view = view, .job = followed});
  }
  return followed;
}

void DatasetViews::Rejudge(JobView& view, Judge judge, const Descriptions& described) {
  view.judge_ = std::move(judge);
  std::erase_if(view.workers_, [](const auto& entry) { return !entry.second.is_refusing; });
  for (const auto& [worker, info] : described) Enter(view, worker, info);
  for (const auto& [worker, info] : described) fleet_.Reconsider(worker);
}

void DatasetViews::Enter(JobView& view, const std::string& worker, v1::DatasetInfo info) {
  std::string deviation = view.judge_(info);
  info.clear_columns();
  info.clear_class_names();
  view.asked_.erase(worker);
  view.workers_[worker] = {std::move(info), std::move(deviation)};
}

bool DatasetViews::EnterIfRefusing(JobView& view, const std::string& worker) const {
  const std::string refused = fleet_.RefusedBy(worker, view.job_);
  if (!refused.empty()) view.workers_[worker] = {{}, WhyRefusing(refused), true};
  return !refused.empty();
}

void DatasetViews::WorkerRegistered(const std::string& worker) {
  std::erase_if(views_, [&](const auto& weak) {
    const auto view = weak.lock();
    // What an earlier life of the worker said counts no more.
    if (view != nullptr) view->workers_.erase(worker);
    return view == nullptr;
  });
  core_.Post([this, worker] { AskFor(worker); });
}

void DatasetViews::AskFor(const std::string& worker) {
  const v1::Worker* known = fleet_.Find(worker);
  if (known == nullptr || fleet_.SessionOf(worker).empty()) return;
  std::vector<std::shared_ptr<Question>> refusing;
  for (const auto& question : questions_) {
    if (!question->waiting.contains(worker)) continue;
    if (std::string refused = fleet_.RefusedBy(worker, question->job); !refused.empty()) {
      question->answer.refusing[worker] = std::move(refused);
      question->waiting.erase(worker);
      refusing.push_back(question);
    } else {
      Send(worker, {.view = question->view, .question = question});
    }
  }
  for (const auto& weak : views_) {
    const auto view = weak.lock();
    if (view == nullptr || !HasFolder(*known, view->view_.dataset())) continue;
    if (EnterIfRefusing(*view, worker)) continue;
    view->asked_.insert(worker);
    Send(worker, {.view = view->view_, .job = view});
  }
  for (const auto& question : refusing) EndIfComplete(question);
}

void DatasetViews::Take(const scheduler::SessionKey& session, v1::DatasetDescription description) {
  const std::string worker = fleet_.worker_of(session);
  const auto known = lines_.find(worker);
  if (known == lines_.end() || known->second.session != session) return;
  Line& line = known->second;
  const auto it = line.sent.find(description.request_id());
  if (it == line.sent.end()) return;
  const Request request = std::move(it->second);
  line.sent.erase(it);
  late_.erase(session);
  v1::DatasetInfo info = std::move(*description.mutable_info());
  if (const absl::Status words = scheduler::CheckDescription(info); !words.ok()) {
    info.Clear();
    info.set_problem(base::MessageOf(words));
  }
  Advance(worker, line);
  if (const auto job = request.job.lock()) {
    Enter(*job, worker, std::move(info));
    fleet_.Reconsider(worker);
    return;
  }
  const auto question = request.question.lock();
  if (question == nullptr || question->waiting.erase(worker) == 0) return;
  question->answer.described[worker] = std::move(info);
  EndIfComplete(question);
}

void DatasetViews::Tick() {
  std::erase_if(lines_,
                [this](const auto& line) { return !fleet_.known_session(line.second.session); });
  std::erase_if(late_, [this](const auto& session) { return !fleet_.known_session(session); });
  const std::list<std::shared_ptr<Question>> open = questions_;
  for (const auto& question : open) {
    std::erase_if(question->waiting, [&](const std::string& worker) {
      const scheduler::SessionKey session = fleet_.SessionOf(worker);
      const bool late = clock_.Elapsed() >= question->deadline;
      if (!session.empty() && !late) return false;
      if (!session.empty()) late_.insert(session);
      question->answer.silent.insert(worker);
      return true;
    });
    EndIfComplete(question);
  }
}

}  // namespace espalier::server::datasets
