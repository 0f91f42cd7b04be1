// Fleet: workers come, are drained or put into quarantine, and go.
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/base/version.h"
#include "common/log/log.h"
#include "common/wire/proto_time.h"
#include "server/scheduler/fleet.h"
#include "server/scheduler/worker_words.h"

namespace espalier::server::scheduler {
namespace {

constexpr size_t kSessionBytes = 16;
constexpr size_t kMaxRememberedLosses = 10'000;
// Sessions that end so close to each other end for one reason.
constexpr absl::Duration kAtOnce = absl::Seconds(1);

v1::CoordinatorMessage MakeWelcome(const base::Limits& limits, uint32_t protocol,
                                   const SessionKey& session) {
  v1::CoordinatorMessage message;
  v1::Welcome& welcome = *message.mutable_welcome();
  welcome.set_protocol(protocol);
  welcome.set_coordinator_version(std::string(base::Version()));
  wire::SetDuration(limits.heartbeat_interval, welcome.mutable_heartbeat_interval());
  wire::SetDuration(limits.heartbeat_timeout, welcome.mutable_heartbeat_timeout());
  wire::SetDuration(limits.transfer_timeout, welcome.mutable_transfer_timeout());
  welcome.set_chunk_bytes(limits.chunk_bytes);
  welcome.set_inline_bytes(limits.inline_bytes);
  welcome.set_max_update_bytes(limits.max_update_bytes);
  welcome.set_session(session);
  return message;
}

absl::StatusOr<uint32_t> AgreeOnProtocol(const v1::Register& hello) {
  const uint32_t protocol = std::min(hello.protocol().max(), base::kProtocolMax);
  if (protocol >= base::kProtocolMin && protocol >= hello.protocol().min()) return protocol;
  return base::FailedPrecondition(
      "PROTOCOL_MISMATCH",
      "expected a worker that speaks protocol " + std::to_string(base::kProtocolMin) + " to " +
          std::to_string(base::kProtocolMax) + ", found " + std::to_string(hello.protocol().min()) +
          " to " + std::to_string(hello.protocol().max()) + " (worker version " + hello.version() +
          ", coordinator version " + std::string(base::Version()) +
          "); install the same version on both");
}

}  // namespace

// Workers that are gone are remembered for `worker list` for a while, the newest of them, and only
// as long as there is room.
void Fleet::ForgetGoneWorkers() {
  const absl::Duration now = clock_.Elapsed();
  std::vector<std::pair<absl::Duration, std::string>> gone;
  for (const auto& [id, worker] : workers_) {
    if (worker.link == nullptr) gone.emplace_back(worker.last_seen, id);
  }
  std::sort(gone.begin(), gone.end());
  const size_t connected = workers_.size() - gone.size();
  const auto most = static_cast<size_t>(limits_.max_workers);
  const size_t room = most > connected + 1 ? most - connected - 1 : 0;
  const size_t kept = std::min(room, static_cast<size_t>(limits_.max_gone_workers));
  for (size_t i = 0; i < gone.size(); ++i) {
    const bool left = workers_.at(gone[i].second).view.state() == v1::Worker::STATE_LEFT;
    const absl::Duration remembered =
        left ? limits_.remember_left_workers : limits_.remember_lost_workers;
    if (i + kept < gone.size() || now - gone[i].first > remembered) workers_.erase(gone[i].second);
  }
}

absl::StatusOr<SessionKey> Fleet::Register(const v1::Register& hello,
                                           std::shared_ptr<WorkerLink> link) {
  ESPALIER_RETURN_IF_ERROR(CheckRegistration(hello));
  ESPALIER_ASSIGN_OR_RETURN(const uint32_t protocol, AgreeOnProtocol(hello));
  const std::string& id = hello.worker_id();
  if (!workers_.contains(id)) {
    ForgetGoneWorkers();
    if (workers_.size() >= static_cast<size_t>(limits_.max_workers)) {
      return base::MakeError(absl::StatusCode::kResourceExhausted, "TOO_MANY_WORKERS",
                             "expected at most " + std::to_string(limits_.max_workers) +
                                 " workers; stop some or start another coordinator");
    }
  }
  WorkerEntry& worker = workers_[id];
  if (worker.link != nullptr) {
    return base::MakeError(absl::StatusCode::kAlreadyExists, "WORKER_EXISTS",
                           "a worker with id '" + id +
                               "' is connected already; start this one with another --id, or stop "
                               "the other and wait " +
                               absl::FormatDuration(limits_.heartbeat_timeout));
  }
  if (!worker.session.empty()) ++reconnects_;
  worker.session = entropy_.Bytes(kSessionBytes);
  worker.link = std::move(link);
  worker.last_seen = clock_.Elapsed();
  worker.last_job = hello.last_job();
  worker.last_trained = hello.last_participant();
  v1::Worker& view = worker.view;
  view.set_name("workers/" + id);
  worker.drained = hello.draining();
  worker.leaving = false;
  view.set_version(hello.version());
  view.set_threads(hello.threads());
  view.set_memory_budget_bytes(hello.memory_budget_bytes());
  view.set_flops_budget(hello.flops_budget());
  *view.mutable_datasets() = hello.datasets();
  worker.policy.reset();
  if (hello.has_policy()) worker.policy = hello.policy();
  wire::SetTimestamp(clock_.Wall(), view.mutable_register_time());
  wire::SetTimestamp(clock_.Wall(), view.mutable_last_seen_time());
  const SessionKey session = worker.session;
  by_session_[session] = id;
  for (const auto& weak : pools_) {
    if (const auto pool = weak.lock()) pool->Forget(id);
  }
  for (auto& [group_id, group] : groups_) group->strikes.erase(id);
  const bool flaps =
      quarantine_.Registers(id, [this](absl::Duration at) { return EndedAlone(at); });
  if (flaps) BeginQuarantine(id);
  ApplyState(worker);
  if (on_registered) on_registered(id);
  Refresh(worker);
  worker.link->Send(MakeWelcome(limits_, protocol, session));
  OfferWorker(id);
  return session;
}

Fleet::WorkerEntry* Fleet::FindBySession(const SessionKey& session) {
  const auto it = by_session_.find(session);
  return it == by_session_.end() ? nullptr : &workers_.at(it->second);
}

void Fleet::Leave(const SessionKey& session) {
  WorkerEntry* worker = FindBySession(session);
  if (worker == nullptr) return;
  worker->leaving = true;
  ApplyDraining(*worker);
}

absl::StatusOr<v1::Worker> Fleet::SetDraining(const std::string& id, bool draining) {
  const auto it = workers_.find(id);
  if (it == workers_.end()) {
    return base::NotFound("WORKER_NOT_FOUND", "expected the name of a worker, found 'workers/" +
                                                  id + "'; see `espalier worker list`");
  }
  WorkerEntry& worker = it->second;
  if (worker.link == nullptr) {
    return base::FailedPrecondition("WORKER_GONE", "expected a worker that is connected, found '" +
                                                       worker.view.name() + "', which is gone");
  }
  if (!draining && worker.leaving) {
    return base::FailedPrecondition("WORKER_LEAVES",
                                    "expected a worker that stays, found '" + worker.view.name() +
                                        "', which was told to end and leaves once its task is "
                                        "done; start it again");
  }
  worker.drained = draining;
  if (!draining) quarantine_.Forget(id);
  ApplyDraining(worker);
  OfferWorker(id);
  return worker.view;
}

bool Fleet::EndedAlone(absl::Duration at) const {
  std::set<std::string> lost;
  size_t connected = 0;  // before the first of them
  for (const Loss& loss : losses_) {
    if (loss.at < at - kAtOnce || loss.at > at + kAtOnce) continue;
    lost.insert(loss.worker);
    connected = std::max(connected, loss.connected);
  }
  return lost.size() < 2 || 2 * lost.size() <= connected;
}

bool Fleet::Strike(const std::string& id, const std::string& update_id, const std::string& reason) {
  const Quarantine::Verdict verdict = quarantine_.Strike(id, update_id, reason);
  if (verdict.counted) log::Warning("worker_strike", {{"worker", id}, {"reason", reason}});
  if (verdict.begins) BeginQuarantine(id);
  return verdict.counted;
}

void Fleet::BeginQuarantine(const std::string& id) {
  const std::optional<Quarantine::Term> term = quarantine_.Find(id);
  if (!term.has_value()) return;
  log::Warning("worker_quarantined", {{"worker", id},
                                      {"for", absl::FormatDuration(term->until - clock_.Elapsed())},
                                      {"message", term->why}});
  const auto it = workers_.find(id);
  if (it == workers_.end() || it->second.link == nullptr) return;
  WorkerEntry& worker = it->second;
  ApplyState(worker);
  if (worker.task_id.empty()) return;
  ++lease_expirations_;
  v1::CoordinatorMessage message;
  message.mutable_cancel_task()->set_task_id(worker.task_id);
  message.mutable_cancel_task()->set_reason("WORKER_QUARANTINED");
  worker.link->Send(message);
  const GroupId group_id = leases_.at(worker.task_id).group;
  const TaskLoss loss{.worker = id,
                      .proven = IsProven(worker),
                      .reason = "WORKER_QUARANTINED",
                      .message = "the worker is in quarantine: " + term->why,
                      .excused = true};
  Release(worker, &loss);
  OfferIfOpen(group_id);
}

void Fleet::EndQuarantines() {
  std::vector<std::string> over;
  for (const auto& [id, worker] : workers_) {
    if (worker.view.state() == v1::Worker::STATE_QUARANTINED && !quarantine_.Find(id)) {
      over.push_back(id);
    }
  }
  for (const std::string& id : over) {
    log::Info("worker_quarantine_ended", {{"worker", id}});
    ApplyState(workers_.at(id));
    OfferWorker(id);
  }
}

void Fleet::ApplyState(WorkerEntry& worker) {
  v1::Worker& view = worker.view;
  view.clear_quarantine_end_time();
  view.clear_quarantine_reason();
  const std::optional<Quarantine::Term> term = quarantine_.Find(WorkerId(view));
  if (worker.leaving) {
    view.set_state(v1::Worker::STATE_DRAINING);
  } else if (term.has_value()) {
    view.set_state(v1::Worker::STATE_QUARANTINED);
    view.set_quarantine_reason(term->why);
    wire::SetTimestamp(clock_.Wall() + (term->until - clock_.Elapsed()),
                       view.mutable_quarantine_end_time());
  } else {
    view.set_state(worker.drained ? v1::Worker::STATE_DRAINING : v1::Worker::STATE_ACTIVE);
  }
  Refresh(worker);
}

std::string Fleet::AndIdled() const {
  const std::map<v1::Worker::State, int> counts = CountByState();
  std::string text;
  if (const auto drained = counts.find(v1::Worker::STATE_DRAINING); drained != counts.end()) {
    text += "; " + std::to_string(drained->second) +
            " more take no tasks, since they are drained or about to leave";
  }
  if (const auto shut = counts.find(v1::Worker::STATE_QUARANTINED); shut != counts.end()) {
    text += "; " + std::to_string(shut->second) +
            " more take no tasks, since they are in quarantine; `espalier worker list` says until "
            "when, and with -o json why";
  }
  return text;
}

std::string Fleet::RefusedBy(const std::string& worker, const config::JobTraits& job) const {
  const auto it = workers_.find(worker);
  if (it == workers_.end() || !it->second.policy.has_value()) return "";
  return config::RefusedBy(*it->second.policy, job);
}

std::string Fleet::AndRefusing(const Requirements& needs) const {
  if (!needs.job.has_value()) return "";
  const std::string& dataset = needs.job->dataset;
  std::map<std::string, int> refusals;
  for (const auto& [id, worker] : workers_) {
    const bool has_data = dataset.empty() || FindDataset(worker.view, dataset) != nullptr;
    const std::string refused = RefusedBy(id, *needs.job);
    if (has_data && worker.link != nullptr && !refused.empty()) ++refusals[refused];
  }
  return config::AndRefusing(refusals, dataset);
}

// The worker hears of it after all tasks that it was given before.
void Fleet::ApplyDraining(WorkerEntry& worker) {
  const bool draining = worker.drained || worker.leaving;
  ApplyState(worker);
  v1::CoordinatorMessage message;
  message.mutable_set_draining()->set_draining(draining);
  worker.link->Send(message);
}

void Fleet::Disconnected(const SessionKey& session) {
  WorkerEntry* worker = FindBySession(session);
  if (worker == nullptr) return;
  if (worker->leaving) {
    Lose(*worker, "WORKER_LEFT", "the worker was told to end");
  } else {
    Lose(*worker, "WORKER_DISCONNECTED", "the worker's connection ended");
  }
}

void Fleet::NoteCertificateEnd(const SessionKey& session, absl::Time end) {
  WorkerEntry* worker = FindBySession(session);
  if (worker != nullptr) {
    wire::SetTimestamp(end, worker->view.mutable_certificate_expire_time());
  }
}

void Fleet::Lose(WorkerEntry& worker, const std::string& reason, const std::string& message) {
  const SessionKey session = worker.session;
  const size_t connected = by_session_.size();
  by_session_.erase(session);
  worker.link = nullptr;
  const bool left = worker.leaving;
  worker.view.set_state(left ? v1::Worker::STATE_LEFT : v1::Worker::STATE_LOST);
  // Only what `worker list` tells of workers that are gone is kept.
  worker.view.clear_datasets();
  worker.policy.reset();
  worker.view.clear_quarantine_end_time();
  worker.view.clear_quarantine_reason();
  if (!left) {
    losses_.push_back({WorkerId(worker.view), clock_.Elapsed(), connected});
    // A task that others were lost with may be what ends workers.
    const auto lease = leases_.find(worker.task_id);
    const bool may_be_the_task = lease != leases_.end() && lease->second.again;
    if (!may_be_the_task) quarantine_.SessionEnded(WorkerId(worker.view));
  }
  if (losses_.size() > kMaxRememberedLosses) losses_.pop_front();
  Refresh(worker);
  if (on_session_lost) on_session_lost(session);
  if (!worker.task_id.empty()) ++lease_expirations_;
  if (worker.task_id.empty()) return;
  const GroupId group_id = leases_.at(worker.task_id).group;
  const std::string owner = leases_.at(worker.task_id).owner;
  const TaskLoss loss{.worker = WorkerId(worker.view),
                      .proven = IsProven(worker),
                      .reason = reason,
                      .message = message,
                      .excused = left};
  Release(worker, &loss);
  OfferIfOpen(group_id);
  OfferOwner(owner);
}

}  // namespace espalier::server::scheduler
