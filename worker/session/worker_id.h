// WorkerId: what a worker is called, the same whenever it is started again.
//
// The id that somebody gave counts. Otherwise a worker with a folder for its state keeps its id there,
// in the file "worker-id", since rows of users that stay in that folder go by it: the name of the host
// and six random digits. A worker without such a folder has the name of the host, and where other
// workers run on the host, the name with the first number from 2 on that is free.
//
// Threading: any. A chosen name is taken on this host as long as the object lives.
#pragma once

#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace espalier::worker::session {

class WorkerId {
 public:
  // `given` and `state_dir` may be empty. Errors: FailedPrecondition STATE_DIR_UNUSABLE,
  // STATE_DIR_DAMAGED.
  static absl::StatusOr<WorkerId> Choose(const std::string& given, const std::string& state_dir);

  ~WorkerId();
  WorkerId(WorkerId&& other) noexcept
      : text_(std::move(other.text_)), socket_(std::exchange(other.socket_, -1)) {}
  WorkerId& operator=(WorkerId&&) = delete;
  WorkerId(const WorkerId&) = delete;
  WorkerId& operator=(const WorkerId&) = delete;

  // ^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$, but for one that was given.
  const std::string& text() const { return text_; }

 private:
  explicit WorkerId(std::string text, int socket = -1) : text_(std::move(text)), socket_(socket) {}
  static WorkerId TakeFree();
  static absl::StatusOr<WorkerId> Kept(const std::string& path);

  std::string text_;
  int socket_;  // has the name on this host; -1 = none
};

}  // namespace espalier::worker::session
