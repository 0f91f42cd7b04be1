// DatasetViews: what connected workers say of their data sets in the view of one job.
//
// A worker describes its folders when it registers, by what they look like. How a job reads them is
// another matter (label column, delimiter, filters …), so the workers that have the data set are
// asked before a job is accepted, and those that come later before they are given its tasks. A worker
// whose policy does not allow the job is not asked: what its data set is concerns others alone.
//
// Bounds:      an answer within limits.describe_timeout, or the worker is left out; a worker that
//              was late once is not waited for again until it answers. kMaxQuestions at once;
//              kMaxSent requests are on their way to one worker, others wait here.
// Threading:   lives on the core executor; no locks.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/executor.h"
#include "common/base/limits.h"
#include "common/config/access/worker_policy.h"
#include "espalier/v1/data.pb.h"
#include "espalier/v1/job.pb.h"
#include "espalier/v1/worker.pb.h"
#include "server/datasets/agreement.h"
#include "server/scheduler/fleet.h"

namespace espalier::server::datasets {

// The fields of a job that change how its data set is read, with their defaults.
v1::DataSpec ViewOf(const v1::JobSpec& spec);

// Why a worker takes no part whose policy refuses this of the job, as a sentence for people.
std::string WhyRefusing(const std::string& refused);

// The workers of one job by their data. Held by the job as long as it is given tasks.
class JobView {
 public:
  // The data set as the worker has it; null when it was not described yet or does not fit.
  const v1::DatasetInfo* Find(const std::string& worker) const;
  // Why workers take no part, by id; also those that have not answered yet.
  std::map<std::string, std::string> LeftOut() const;

 private:
  friend class DatasetViews;
  struct Entry {
    v1::DatasetInfo info;  // without names of columns and classes
    std::string deviation;
    bool is_refusing = false;  // it was not asked
  };

  v1::DataSpec view_;
  config::JobTraits job_;
  // Why a worker that describes the data set so takes no part; "" if it does.
  std::function<std::string(const v1::DatasetInfo&)> judge_;
  std::map<std::string, Entry> workers_;
  std::set<std::string> asked_;
};

class DatasetViews {
 public:
  static constexpr size_t kMaxQuestions = 64;
  static constexpr size_t kMaxSent = 8;

  struct Answer {
    Descriptions described;
    std::set<std::string> silent;  // workers that did not answer in time
    // Workers that have the data set and were not asked, since their policies do not allow the job:
    // what they refuse ("jobs of 'bob'").
    std::map<std::string, std::string> refusing;
  };
  using Done = std::function<void(Answer)>;
  using Judge = std::function<std::string(const v1::DatasetInfo&)>;

  DatasetViews(scheduler::Fleet& fleet, base::Executor& core, const base::Clock& clock,
               const base::Limits& limits);

  // Asks every connected worker that has a folder of the view's name and allows `job`. `done` is
  // called once, on the core: at once when there are none. False, and nothing is done, when too many
  // questions are open.
  bool Ask(const v1::DataSpec& view, const config::JobTraits& job, Done done);
  // Judges the workers of `described` now, and asks and judges the others that are connected, and
  // those that register while the view is held.
  std::shared_ptr<JobView> Follow(const v1::DataSpec& view, const config::JobTraits& job,
                                  Judge judge, const Descriptions& described);

  // The job agreed on more: judges the workers of `described`, which were all asked anew, again.
  void Rejudge(JobView& view, Judge judge, const Descriptions& described);

  // A worker answers. Stale and unknown answers are dropped.
  void Take(const scheduler::SessionKey& session, v1::DatasetDescription description);
  // To be called regularly: ends what waits for too long.
  void Tick();

 private:
  struct Question {
    v1::DataSpec view;
    config::JobTraits job;
    Answer answer;
    std::set<std::string> waiting;
    absl::Duration deadline;
    Done done;
  };
  struct Request {
    v1::DataSpec view;
    std::weak_ptr<Question> question = {};
    std::weak_ptr<JobView> job = {};
  };
  // What one registration of a worker was asked, or is to be asked.
  struct Line {
    scheduler::SessionKey session;
    std::map<uint64_t, Request> sent;
    std::deque<Request> waiting;
  };

  void Send(const std::string& worker, Request request);
  void Advance(const std::string& worker, Line& line);
  static void Enter(JobView& view, const std::string& worker, v1::DatasetInfo info);
  // Notes that the worker refuses the job, if it does.
  bool EnterIfRefusing(JobView& view, const std::string& worker) const;
  void WorkerRegistered(const std::string& worker);
  void AskFor(const std::string& worker);
  void EndIfComplete(const std::shared_ptr<Question>& question);

  scheduler::Fleet& fleet_;
  base::Executor& core_;
  const base::Clock& clock_;
  const base::Limits limits_;
  std::list<std::shared_ptr<Question>> questions_;
  std::vector<std::weak_ptr<JobView>> views_;
  std::map<std::string, Line> lines_;  // by worker
  std::set<scheduler::SessionKey> late_;
  uint64_t next_request_ = 1;
};

}  // namespace espalier::server::datasets
