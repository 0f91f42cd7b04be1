// JobIndex: all jobs that a coordinator knows of, those in work and those that have ended: what it
// takes to find one and to list many. What else there is of a job that has ended is in the store.
//
// Memory:    about 1 KB a job (docs/benchmarks.md).
// Threading: lives on the core executor.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "espalier/v1/job.pb.h"

namespace espalier::server::jobs {

// Whether a job in this state has ended.
bool IsEnd(v1::Job::State state);

class JobIndex {
 public:
  struct Entry {
    int64_t number = 0;  // rises with every job that is accepted
    v1::Job::State state = v1::Job::STATE_PENDING;
    std::string method;
    std::string display_name;
    std::string owner;  // "" where the cluster does not know its users
    std::string request_id;
    std::shared_ptr<void>
        files;  // what the store names of a job that failed; stays as long as this
  };
  // Where a job stands in a list: after those before it, in any order, also when it is deleted.
  struct Place {
    int64_t number = 0;
    std::string name;
  };

  // The number of the next job.
  int64_t next_number() const { return next_number_; }
  // A job that is new here, named "jobs/{id}", with a number that no other one has.
  void Add(const std::string& name, int64_t number, const v1::JobSpec& spec, v1::Job::State state,
           const std::string& owner, const std::string& request_id);
  void Remove(const std::string& name);
  // Of a job that is here.
  void SetState(const std::string& name, v1::Job::State state);
  void Keep(const std::string& name, std::shared_ptr<void> files);

  // Null when there is none; good until the next change.
  const Entry* Find(const std::string& name) const;
  // The name of the job that this user created with this id, if it is not empty. The ids of one user
  // say nothing to another.
  std::optional<std::string> OfRequest(const std::string& owner,
                                       const std::string& request_id) const;
  size_t size() const { return jobs_.size(); }
  int64_t Count(v1::Job::State state) const;
  // Jobs of this user that have not ended.
  int64_t CountUnended(const std::string& owner) const;
  std::vector<std::string> Names() const;
  // The jobs that the request asks for, in its order; of one user, where there is an `owner`. Errors:
  // InvalidArgument INVALID_FILTER.
  absl::StatusOr<std::vector<Place>> Select(
      const v1::ListJobsRequest& request,
      const std::optional<std::string>& owner = std::nullopt) const;
  // Whether `a` comes before `b` in this order.
  static bool IsBefore(const Place& a, const Place& b, v1::ListJobsRequest::Order order);
  // The job that was accepted first of those that have ended, if more than `most` have.
  std::optional<std::string> OldestEndedBeyond(int64_t most) const;

 private:
  // A job that is, or is no more, in this state.
  void CountJob(const Entry& entry, int64_t change);

  std::map<std::string, Entry> jobs_;
  std::map<int64_t, std::string> by_number_;
  std::map<std::pair<std::string, std::string>, std::string> by_request_id_;  // of an owner
  std::map<v1::Job::State, int64_t> counts_;
  std::map<std::string, int64_t> unended_;  // by owner
  int64_t next_number_ = 1;
};

}  // namespace espalier::server::jobs
