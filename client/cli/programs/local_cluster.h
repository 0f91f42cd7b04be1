// LocalCluster: a coordinator, workers and the dashboard as child processes of this one.
//
// Ownership: every child ends with this object, and with this process however it ends (the kernel
//            kills children whose parent died).
// Threading: use from the main thread only: a child dies with the thread that started it.
// Errors:    what a program said when it did not start: the last line of its log.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace espalier::cli {

// Path of a program beside this one.
std::string ProgramPath(const std::string& name);

struct LocalClusterOptions {
  int workers = 3;
  int threads = 1;        // of each worker
  std::string data_root;  // folder of data sets
  std::string data_dir;   // for checkpoints and logs
  std::string models;     // the coordinator's --models; "" = none
  std::string listen = "127.0.0.1:0";
  std::string metrics_listen = "127.0.0.1:0";
  // Where the dashboard listens, or at the next free port; "": there is none.
  std::string dashboard_listen = "127.0.0.1:7080";
};

class LocalCluster {
 public:
  // Returns when the coordinator listens. Workers register on their own a moment later.
  static absl::StatusOr<std::unique_ptr<LocalCluster>> Start(const LocalClusterOptions& options);
  // SIGTERM to all, SIGKILL to those that take longer than 8 s.
  ~LocalCluster();
  LocalCluster(const LocalCluster&) = delete;
  LocalCluster& operator=(const LocalCluster&) = delete;

  const std::string& address() const { return address_; }
  const std::string& metrics_address() const { return metrics_address_; }
  const std::vector<std::string>& worker_metrics_addresses() const { return worker_metrics_; }
  const std::string& log_dir() const { return log_dir_; }
  // "http://HOST:PORT/"; an error where the dashboard did not start, which keeps nobody from training,
  // and "" where none was asked for.
  const absl::StatusOr<std::string>& dashboard_url() const { return dashboard_url_; }

  // What ended although nobody asked it to; empty while all run.
  struct End {
    std::string name;  // "coordinator", "worker-1", "dashboard"
    absl::Status status;
  };
  std::optional<End> Check();

 private:
  struct Child {
    std::string name;
    pid_t pid = -1;
  };

  LocalCluster() = default;
  // Which variables of this process's environment a program gets.
  enum class Variables { kAll, kWithoutConnection };
  // Starts a program; its first line of output is returned.
  absl::StatusOr<std::string> Spawn(const std::string& name, const std::string& program,
                                    std::vector<std::string> arguments,
                                    Variables variables = Variables::kAll);
  absl::StatusOr<std::string> SpawnDashboard(const std::string& listen);
  absl::Status Ended(const std::string& name) const;
  void StopAll();

  std::vector<Child> children_;
  std::string log_dir_;
  std::string address_;
  std::string metrics_address_;
  std::vector<std::string> worker_metrics_;
  absl::StatusOr<std::string> dashboard_url_ = "";
};

// The value of `key` in a line of "key=value" words; "" when it is not there.
std::string WordValue(const std::string& line, const std::string& key);

}  // namespace espalier::cli
