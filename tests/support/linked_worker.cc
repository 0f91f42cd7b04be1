#include "tests/support/linked_worker.h"

#include <utility>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace espalier::test {
namespace {

constexpr int kHeartbeatSeconds = 2;
constexpr int kConnectSeconds = 10;

}  // namespace

// The coordinator's end of a connection.
class LinkedWorker::End : public server::scheduler::WorkerLink {
 public:
  End(LinkedWorker& worker, ConnectionPtr connection)
      : worker_(worker), connection_(std::move(connection)) {}

  void Send(const v1::CoordinatorMessage& message) override {
    if (message.has_task()) worker_.witness_.task(message.task());
    worker_.link_.Say(Link::kWorker, [&worker = worker_, connection = connection_, message] {
      worker.Hear(connection, message);
    });
  }
  void Close(const absl::Status& /*status*/) override {
    worker_.link_.Say(Link::kWorker,
                      [&worker = worker_, connection = connection_] { worker.Lost(connection); });
  }

 private:
  LinkedWorker& worker_;
  const ConnectionPtr connection_;
};

LinkedWorker::LinkedWorker(std::string id, std::string dataset, Link& link,
                           const std::shared_ptr<Door>& door, const Witness& witness, uint64_t seed)
    : id_(std::move(id)),
      dataset_(std::move(dataset)),
      link_(link),
      door_(door),
      witness_(witness),
      rng_(base::StreamKey(seed, id_)) {}

bool LinkedWorker::idle() const {
  return next_ == nullptr && in_work_.task == nullptr && results_.wanted() == nullptr &&
         call_.attempt == nullptr && unasked_.attempt == nullptr;
}

void LinkedWorker::Say(
    const std::function<void(Door& door, const ConnectionPtr& connection)>& arrive) {
  link_.Say(Link::kCoordinator, [connection = connection_, arrive] {
    // A coordinator that is gone hears nothing.
    if (const auto door = connection->door.lock()) arrive(*door, connection);
  });
}

// -- time --

void LinkedWorker::Tick() {
  if (connection_ == nullptr) {
    if (--seconds_ <= 0) Connect();
    return;
  }
  ++seconds_;
  if (!registered_) {
    if (seconds_ < kConnectSeconds) return;
    Say([](Door& door, const ConnectionPtr& connection) {
      door.fleet.Disconnected(connection->session);
    });
    Lost(connection_);
    return;
  }
  if (seconds_ >= kHeartbeatSeconds) {
    seconds_ = 0;
    Say([](Door& door, const ConnectionPtr& connection) {
      door.fleet.Heartbeat(connection->session, {});
    });
  }
  for (Call* call : {&call_, &unasked_}) {
    if (call->attempt == nullptr || --call->patience > 0) continue;
    ++repeats_;
    Send(*call, call->attempt->update);
  }
  if (in_work_.task != nullptr && !in_work_.missing.empty() && --in_work_.patience <= 0) Ask();
}

bool LinkedWorker::Act() {
  const bool can_begin = next_ != nullptr && in_work_.task == nullptr && results_.HasRoom();
  const bool can_complete = in_work_.task != nullptr && in_work_.missing.empty();
  const bool can_hand_in = registered_ && call_.attempt == nullptr && results_.wanted() != nullptr;
  if (can_hand_in && (!(can_begin || can_complete) || Draw(0, 1) == 0)) {
    HandIn();
  } else if (can_complete) {
    Complete();
  } else if (can_begin) {
    Begin();
  } else {
    return false;
  }
  return true;
}

// -- the connection --

void LinkedWorker::Connect() {
  seconds_ = 0;
  connection_ = std::make_shared<Connection>();
  // A connection is there once the other end has answered; only then does anything go over it.
  link_.Say(Link::kCoordinator, [this, connection = connection_] {
    connection->door = door_;
    if (door_ == nullptr) {
      link_.Say(Link::kWorker, [this, connection] { Lost(connection); });
      return;
    }
    link_.Say(Link::kWorker, [this, connection] {
      if (connection != connection_) return;
      v1::Register hello;
      hello.set_worker_id(id_);
      hello.mutable_protocol()->set_min(base::kProtocolMin);
      hello.mutable_protocol()->set_max(base::kProtocolMax);
      hello.add_datasets()->set_name(dataset_);
      const worker::session::Results::Result* newest = results_.newest();
      const v1::Task* last = newest == nullptr ? nullptr : newest->task.get();
      if (in_work_.task != nullptr) last = in_work_.task.get();
      if (last != nullptr) {
        hello.set_last_job(last->job());
        hello.set_last_participant(last->participant());
      }
      Say([this, hello](Door& door, const ConnectionPtr& registering) {
        Arrive(door, registering, hello);
      });
    });
  });
}

void LinkedWorker::Arrive(Door& door, const ConnectionPtr& connection, const v1::Register& hello) {
  const auto session = door.fleet.Register(hello, std::make_shared<End>(*this, connection));
  if (session.ok()) {
    connection->session = *session;
    return;
  }
  // Its connection before may not be known to be over.
  ESPALIER_CHECK(base::ReasonOf(session.status()) == "WORKER_EXISTS", "a worker was refused");
  link_.Say(Link::kWorker, [this, connection] { Lost(connection); });
}

void LinkedWorker::Lost(const ConnectionPtr& connection) {
  if (connection != connection_ || connection == nullptr) return;
  connection_ = nullptr;
  registered_ = false;
  seconds_ = Draw(1, 4);
  next_ = nullptr;
  unasked_ = {};
  // What lacks something of the coordinator cannot be completed.
  if (!in_work_.missing.empty()) in_work_ = {};
  in_work_.disowned = in_work_.task != nullptr;
  results_.Disown();
  if (call_.attempt == nullptr) return;
  unheard_ = call_.attempt->update;
  call_ = {};
  results_.End(/*taken=*/false);
}

void LinkedWorker::CoordinatorDied() {
  link_.Lose(Link::kCoordinator);
  link_.Say(Link::kWorker, [this, connection = connection_] { Lost(connection); });
}

void LinkedWorker::Cut(bool coordinator_notices) {
  for (const Link::To to : {Link::kCoordinator, Link::kWorker}) link_.Lose(to);
  const ConnectionPtr connection = connection_;
  Lost(connection);
  if (connection == nullptr || !coordinator_notices) return;
  if (const auto door = connection->door.lock()) door->fleet.Disconnected(connection->session);
}

void LinkedWorker::Die() {
  link_.Lose(Link::kWorker);
  if (connection_ != nullptr) {
    Say([](Door& door, const ConnectionPtr& connection) {
      door.fleet.Disconnected(connection->session);
    });
  }
  connection_ = nullptr;
  registered_ = false;
  seconds_ = Draw(1, 4);
  next_ = nullptr;
  in_work_ = {};
  results_ = {};
  call_ = unasked_ = {};
  unheard_ = {};
  tasks_ = {};
}

// -- tasks --

void LinkedWorker::Hear(const ConnectionPtr& connection, const v1::CoordinatorMessage& message) {
  if (connection != connection_) return;
  if (message.has_welcome()) {
    registered_ = true;
    seconds_ = 0;
    session_ = message.welcome().session();
    if (!unheard_.body.empty() && Draw(0, 1) == 0) {
      ++repeats_;
      unheard_.header.set_session(session_);
      Send(unasked_, std::exchange(unheard_, {}));
    }
  }
  if (message.has_task()) Take(std::make_shared<const v1::Task>(message.task()));
  if (message.has_cancel_task()) CancelTask(message.cancel_task().task_id());
  if (message.has_describe_dataset()) {
    v1::DatasetDescription description;
    description.set_request_id(message.describe_dataset().request_id());
    description.mutable_info()->set_name(dataset_);
    Say([description](Door& door, const ConnectionPtr& described) {
      door.jobs.Describe(described->session, description);
    });
  }
}

void LinkedWorker::Take(TaskPtr task) {
  if (results_.Claim(task)) return;
  if (in_work_.disowned &&
      worker::session::KeyOf(*task) == worker::session::KeyOf(*in_work_.task)) {
    in_work_.task = std::move(task);
    in_work_.disowned = false;
    return;
  }
  results_.Forget();
  if (in_work_.disowned) in_work_ = {};
  next_ = std::move(task);
}

void LinkedWorker::CancelTask(const std::string& task_id) {
  if (next_ != nullptr && next_->task_id() == task_id) next_ = nullptr;
  if (in_work_.task != nullptr && !in_work_.disowned && in_work_.task->task_id() == task_id) {
    in_work_ = {};
  }
  if (!results_.Cancel(task_id)) return;
  call_ = {};
  results_.End(/*taken=*/false);
}

void LinkedWorker::Begin() {
  in_work_ = {};
  in_work_.task = in_work_.given = std::exchange(next_, nullptr);
  for (const v1::BlobRef& ref : tasks_.Needs(*in_work_.task)) {
    if (ref.inline_().empty()) {
      in_work_.missing.push_back(ref);
    } else {
      in_work_.blobs[ref.digest()] = ref.inline_();
    }
  }
  if (!in_work_.missing.empty()) Ask();
}

void LinkedWorker::Ask() {
  in_work_.patience = Draw(3, 20);
  Say([this, digest = in_work_.missing.front().digest(), job = in_work_.task->job()](
          Door& door, const ConnectionPtr& connection) {
    // Null where the session or the round is over.
    const auto blob =
        door.fleet.known_session(connection->session) ? door.blobs.Get(digest, job) : nullptr;
    if (blob != nullptr) blob->Charge(static_cast<int64_t>(blob->bytes().size()));
    link_.Say(Link::kWorker,
              [this, connection, digest, blob] { Fetched(connection, digest, blob); });
  });
}

void LinkedWorker::Fetched(const ConnectionPtr& connection, const std::string& digest,
                           const std::shared_ptr<const server::round::Blob>& blob) {
  // An answer to what was asked twice, or for a task that is wanted no more.
  if (connection != connection_ || in_work_.missing.empty() ||
      in_work_.missing.front().digest() != digest) {
    return;
  }
  if (blob == nullptr) {
    const TaskPtr task = in_work_.task;
    in_work_ = {};
    Fail(*task, "BLOB_NOT_FOUND");
    return;
  }
  in_work_.blobs[digest] = std::string(blob->bytes());
  in_work_.missing.erase(in_work_.missing.begin());
  if (!in_work_.missing.empty()) Ask();
}

void LinkedWorker::Complete() {
  const InWork done = std::exchange(in_work_, {});
  Update update = tasks_.Do(
      *done.given, [&done](const v1::BlobRef& ref) { return done.blobs.at(ref.digest()); });
  results_.Add(done.task, {std::move(update.header), std::move(update.body)}, !done.disowned);
}

void LinkedWorker::Fail(const v1::Task& task, const std::string& reason) {
  v1::TaskFailed failure;
  failure.set_task_id(task.task_id());
  *failure.mutable_epoch() = task.epoch();
  failure.set_reason(reason);
  Say([failure](Door& door, const ConnectionPtr& connection) {
    door.fleet.TaskFailed(connection->session, failure);
  });
}

// -- results --

void LinkedWorker::HandIn() {
  const worker::session::Results::Result& result = results_.Begin();
  if (result.cancelled) {
    results_.End(/*taken=*/false);
    return;
  }
  Update update{result.partial.header, result.partial.body};
  Identify(update, id_ + "-" + std::to_string(++updates_), session_);
  Send(call_, std::move(update));
}

void LinkedWorker::Send(Call& call, Update update) {
  call.patience = Draw(3, 20);
  call.attempt = std::make_shared<Attempt>(Attempt{std::move(update), Draw(0, 1) == 0});
  Say([this, attempt = call.attempt](Door& door, const ConnectionPtr& connection) {
    ArriveHeader(door, connection, attempt);
  });
  if (call.attempt->asks_first) return;
  Say([this, attempt = call.attempt](Door& door, const ConnectionPtr& connection) {
    ArriveBody(door, connection, attempt);
  });
}

void LinkedWorker::ArriveHeader(Door& door, const ConnectionPtr& connection,
                                const AttemptPtr& attempt) {
  const absl::StatusOr<bool> duplicate = door.jobs.Admit(attempt->update.header);
  if (!duplicate.ok()) {
    Answer(connection, attempt, duplicate.status(), false);
  } else if (*duplicate) {
    door.jobs.WhenWritten([this, connection, attempt](const absl::Status& status) {
      Answer(connection, attempt, status, true);
    });
  } else {
    attempt->admitted = true;
    if (!attempt->asks_first) return;
    link_.Say(Link::kWorker, [this, connection, attempt] {
      if (connection != connection_) return;
      if (call_.attempt != attempt && unasked_.attempt != attempt) return;
      Say([this, attempt](Door& at, const ConnectionPtr& on) { ArriveBody(at, on, attempt); });
    });
  }
}

void LinkedWorker::ArriveBody(Door& door, const ConnectionPtr& connection,
                              const AttemptPtr& attempt) {
  if (!attempt->admitted) return;
  server::round::Upload upload;
  upload.header = attempt->update.header;
  upload.body = [attempt](uint64_t offset, uint64_t size, const auto& sink) {
    return sink(std::string_view(attempt->update.body).substr(offset, size));
  };
  door.jobs.Accept(std::move(upload), [this, connection, attempt](const absl::Status& status) {
    Answer(connection, attempt, status, false);
  });
}

void LinkedWorker::Answer(const ConnectionPtr& connection, const AttemptPtr& attempt,
                          const absl::Status& status, bool duplicate) {
  witness_.answer(attempt->update.header, status, duplicate);
  link_.Say(Link::kWorker,
            [this, connection, attempt, status] { Answered(connection, attempt, status); });
}

void LinkedWorker::Answered(const ConnectionPtr& connection, const AttemptPtr& attempt,
                            const absl::Status& status) {
  if (connection != connection_) return;
  if (attempt == unasked_.attempt) unasked_ = {};
  if (attempt != call_.attempt) return;
  call_ = {};
  results_.End(status.ok());
}

}  // namespace espalier::test
