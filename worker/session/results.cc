#include "worker/session/results.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <utility>

#include "common/io/sha256.h"

namespace espalier::worker::session {

std::string KeyOf(const v1::Task& task) {
  v1::Task same = task;
  same.clear_task_id();
  same.clear_epoch();
  same.clear_lease();
  // How the structure is fetched; which one it is, is said by its hash.
  same.mutable_model()->clear_topology_update();
  same.mutable_model()->clear_update_base_hash();
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    same.SerializeToCodedStream(&coded);
  }
  return io::Sha256Hex(bytes);
}

bool Results::HasRoom() const {
  return results_.empty() ||
         (results_.size() == 1 && results_.front().partial.body.size() <= kSmallBytes);
}

void Results::Add(TaskPtr task, tasks::Partial partial, bool wanted) {
  results_.push_back({.task = std::move(task), .partial = std::move(partial), .wanted = wanted});
}

bool Results::Claim(const TaskPtr& task) {
  std::string key;
  for (Result& result : results_) {
    if (result.wanted || result.forgotten) continue;
    if (key.empty()) key = KeyOf(*task);
    if (KeyOf(*result.task) != key) continue;
    result.task = task;
    result.wanted = true;
    return true;
  }
  return false;
}

void Results::Disown() {
  std::erase_if(results_, [](const Result& r) { return r.cancelled && r.lease == nullptr; });
  for (Result& result : results_) {
    result.wanted = false;
    result.forgotten |= result.cancelled;
  }
}

void Results::Forget() {
  std::erase_if(results_, [](const Result& r) { return !r.wanted && r.lease == nullptr; });
  for (Result& result : results_) result.forgotten |= !result.wanted;
}

bool Results::Cancel(const std::string& task_id) {
  for (Result& result : results_) {
    if (!result.wanted || result.task->task_id() != task_id) continue;
    result.cancelled = true;
    return result.lease != nullptr;
  }
  return false;
}

const Results::Result* Results::wanted() const {
  const auto it = std::find_if(results_.begin(), results_.end(),
                               [](const Result& result) { return result.wanted; });
  return it == results_.end() ? nullptr : &*it;
}

const Results::Result* Results::newest() const {
  return results_.empty() ? nullptr : &results_.back();
}

const Results::Result& Results::Begin() {
  const auto it = std::find_if(results_.begin(), results_.end(),
                               [](const Result& result) { return result.wanted; });
  it->lease = it->task;
  it->partial.header.set_task_id(it->task->task_id());
  *it->partial.header.mutable_epoch() = it->task->epoch();
  return *it;
}

Results::Fate Results::End(bool taken) {
  const auto it = std::find_if(results_.begin(), results_.end(),
                               [](const Result& result) { return result.lease != nullptr; });
  const TaskPtr lease = std::exchange(it->lease, nullptr);
  if (it->wanted && it->task != lease) return Fate::kAgain;
  if (!it->wanted && !it->forgotten && !taken) return Fate::kKept;
  results_.erase(it);
  return Fate::kOver;
}

}  // namespace espalier::worker::session
