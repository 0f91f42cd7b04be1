#include "worker/session/unclaimed.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

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

void Readdress(const v1::Task& task, tasks::Partial& partial) {
  partial.header.set_task_id(task.task_id());
  *partial.header.mutable_epoch() = task.epoch();
}

void Unclaimed::Keep(const v1::Task& task, tasks::Partial partial) {
  key_ = KeyOf(task);
  job_ = task.job();
  participant_ = task.participant();
  partial_ = std::move(partial);
}

std::optional<tasks::Partial> Unclaimed::Take(const v1::Task& task) {
  if (!partial_.has_value()) return std::nullopt;
  std::optional<tasks::Partial> partial = std::exchange(partial_, std::nullopt);
  job_.clear();
  participant_.clear();
  if (KeyOf(task) != key_) return std::nullopt;
  Readdress(task, *partial);
  return partial;
}

}  // namespace espalier::worker::session
