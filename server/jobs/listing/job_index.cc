#include "server/jobs/listing/job_index.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "common/base/check.h"
#include "common/base/status.h"

namespace espalier::server::jobs {
namespace {

constexpr size_t kMaxFilterBytes = 200;

bool Contains(const std::string& text, const std::string& lower_case) {
  return absl::StrContains(absl::AsciiStrToLower(text), lower_case);
}

absl::Status CheckFilter(const v1::ListJobsRequest& request) {
  for (const int state : request.states()) {
    if (v1::Job::State_IsValid(state) && state != v1::Job::STATE_UNSPECIFIED) continue;
    return base::InvalidArgument(
        "INVALID_FILTER", "expected states of jobs, found the number " + std::to_string(state));
  }
  if (!v1::ListJobsRequest::Order_IsValid(request.order())) {
    return base::InvalidArgument("INVALID_FILTER", "expected an order of jobs, found the number " +
                                                       std::to_string(request.order()));
  }
  const size_t longest = std::max(request.contains().size(), request.method().size());
  if (longest <= kMaxFilterBytes) return absl::OkStatus();
  return base::InvalidArgument("INVALID_FILTER", "expected texts of at most " +
                                                     std::to_string(kMaxFilterBytes) +
                                                     " bytes, found " + std::to_string(longest));
}

}  // namespace

bool IsEnd(v1::Job::State state) {
  return state == v1::Job::STATE_SUCCEEDED || state == v1::Job::STATE_FAILED ||
         state == v1::Job::STATE_CANCELLED;
}

void JobIndex::Add(const std::string& name, int64_t number, const v1::JobSpec& spec,
                   v1::Job::State state, const std::string& owner, const std::string& request_id) {
  next_number_ = std::max(next_number_, number + 1);
  const bool is_new = jobs_
                          .try_emplace(name, Entry{number, state, spec.method().name(),
                                                   spec.display_name(), owner, request_id, nullptr})
                          .second;
  ESPALIER_CHECK(is_new, "a job has a name of its own");
  by_number_[number] = name;
  if (!request_id.empty()) by_request_id_[{owner, request_id}] = name;
  CountJob(jobs_.at(name), 1);
}

void JobIndex::CountJob(const Entry& entry, int64_t change) {
  counts_[entry.state] += change;
  if (IsEnd(entry.state)) return;
  const auto it = unended_.try_emplace(entry.owner).first;
  it->second += change;
  if (it->second == 0) unended_.erase(it);
}

void JobIndex::Remove(const std::string& name) {
  const auto it = jobs_.find(name);
  ESPALIER_CHECK(it != jobs_.end(), "a job is removed once");
  const Entry& entry = it->second;
  by_number_.erase(entry.number);
  if (!entry.request_id.empty()) by_request_id_.erase({entry.owner, entry.request_id});
  CountJob(entry, -1);
  jobs_.erase(it);
}

void JobIndex::SetState(const std::string& name, v1::Job::State state) {
  Entry& entry = jobs_.at(name);
  if (entry.state == state) return;
  CountJob(entry, -1);
  entry.state = state;
  CountJob(entry, 1);
}

void JobIndex::Keep(const std::string& name, std::shared_ptr<void> files) {
  jobs_.at(name).files = std::move(files);
}

const JobIndex::Entry* JobIndex::Find(const std::string& name) const {
  const auto it = jobs_.find(name);
  return it == jobs_.end() ? nullptr : &it->second;
}

std::optional<std::string> JobIndex::OfRequest(const std::string& owner,
                                               const std::string& request_id) const {
  const auto it = by_request_id_.find({owner, request_id});
  if (request_id.empty() || it == by_request_id_.end()) return std::nullopt;
  return it->second;
}

int64_t JobIndex::Count(v1::Job::State state) const {
  const auto it = counts_.find(state);
  return it == counts_.end() ? 0 : it->second;
}

int64_t JobIndex::CountUnended(const std::string& owner) const {
  const auto it = unended_.find(owner);
  return it == unended_.end() ? 0 : it->second;
}

std::vector<std::string> JobIndex::Names() const {
  std::vector<std::string> names;
  names.reserve(by_number_.size());
  for (const auto& [number, name] : by_number_) names.push_back(name);
  return names;
}

absl::StatusOr<std::vector<JobIndex::Place>> JobIndex::Select(
    const v1::ListJobsRequest& request, const std::optional<std::string>& owner) const {
  ESPALIER_RETURN_IF_ERROR(CheckFilter(request));
  const std::string text = absl::AsciiStrToLower(request.contains());
  std::vector<Place> places;
  for (const auto& [number, name] : by_number_) {
    const Entry& entry = jobs_.at(name);
    const bool in_state =
        request.states().empty() ||
        std::ranges::find(request.states(), entry.state) != request.states().end();
    const bool of_method = request.method().empty() || request.method() == entry.method;
    const bool of_owner = !owner.has_value() || *owner == entry.owner;
    if (!in_state || !of_method || !of_owner) continue;
    if (Contains(name, text) || Contains(entry.display_name, text))
      places.push_back({number, name});
  }
  std::ranges::sort(places, [order = request.order()](const Place& a, const Place& b) {
    return IsBefore(a, b, order);
  });
  return places;
}

bool JobIndex::IsBefore(const Place& a, const Place& b, v1::ListJobsRequest::Order order) {
  if (order == v1::ListJobsRequest::ORDER_NAME) return a.name < b.name;
  return order == v1::ListJobsRequest::ORDER_OLDEST ? a.number < b.number : a.number > b.number;
}

std::optional<std::string> JobIndex::OldestEndedBeyond(int64_t most) const {
  int64_t ended = 0;
  for (const auto& [state, count] : counts_) ended += IsEnd(state) ? count : 0;
  if (ended <= most) return std::nullopt;
  const auto oldest = std::ranges::find_if(
      by_number_, [this](const auto& numbered) { return IsEnd(jobs_.at(numbered.second).state); });
  return oldest->second;
}

}  // namespace espalier::server::jobs
