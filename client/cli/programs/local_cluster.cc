#include "client/cli/programs/local_cluster.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <thread>
#include <utility>

#include "client/cli/output.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

using std::chrono::steady_clock;

constexpr auto kStartTimeout = std::chrono::seconds(20);
constexpr auto kStopTimeout = std::chrono::seconds(8);
constexpr auto kPoll = std::chrono::milliseconds(10);

std::string LastLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::string last;
  while (std::getline(file, line)) {
    if (!line.empty()) last = line;
  }
  return last;
}

// This process's variables but for those that say which coordinator is meant, and as whom.
std::vector<char*> WithoutConnection() {
  std::vector<char*> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (!text.starts_with("ESPALIER_") || text.starts_with("ESPALIER_DEBUGGABLE=")) {
      variables.push_back(*variable);
    }
  }
  variables.push_back(nullptr);
  return variables;
}

// In the child: never returns.
[[noreturn]] void Execute(const std::string& program, const std::vector<std::string>& arguments,
                          char* const* variables, int out, const std::string& log, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The parent may have died before the line above.
  if (getppid() != parent) _exit(127);
  // Ctrl-C in the terminal is for the parent, which then stops its children in order.
  setpgid(0, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int log_fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  dup2(log_fd, STDERR_FILENO);
  dup2(out, STDOUT_FILENO);
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execve(program.c_str(), argv.data(), variables);
  dprintf(STDERR_FILENO, "cannot run %s\n", program.c_str());
  _exit(127);
}

// One line from a pipe, within kStartTimeout; "" when the writer ended or was silent.
std::string ReadLine(int fd) {
  const auto deadline = steady_clock::now() + kStartTimeout;
  std::string line;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - steady_clock::now());
    pollfd entry{fd, POLLIN, 0};
    if (left.count() <= 0 || poll(&entry, 1, static_cast<int>(left.count())) <= 0) return "";
    char c = 0;
    if (read(fd, &c, 1) != 1) return "";
    if (c == '\n') return line;
    line += c;
  }
}

}  // namespace

std::string ProgramPath(const std::string& name) {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / name;
}

std::string WordValue(const std::string& line, const std::string& key) {
  const size_t begin = (" " + line).find(" " + key + "=");
  if (begin == std::string::npos) return "";
  const size_t value = begin + key.size() + 1;
  return line.substr(value, line.find(' ', value) - value);
}

absl::Status LocalCluster::Ended(const std::string& name) const {
  const std::string log = log_dir_ + "/" + name + ".log";
  return WithFurtherLines(base::MakeError(absl::StatusCode::kUnavailable, "PROCESS_ENDED",
                                          fmt::format("{} ended; its last words:", name)),
                          {LastLine(log), fmt::format("(all of them: {})", log)});
}

absl::StatusOr<std::string> LocalCluster::Spawn(const std::string& name, const std::string& program,
                                                std::vector<std::string> arguments,
                                                Variables variables) {
  const std::vector<char*> chosen = WithoutConnection();
  char* const* const given = variables == Variables::kAll ? environ : chosen.data();
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return absl::ResourceExhaustedError("no file descriptors");
  const std::string path = ProgramPath(program);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    Execute(path, arguments, given, pipe_fds[1], log_dir_ + "/" + name + ".log", parent);
  }
  close(pipe_fds[1]);
  if (pid < 0) {
    close(pipe_fds[0]);
    return absl::ResourceExhaustedError("expected to start a process, the system has no more");
  }
  children_.push_back({name, pid});
  const std::string line = ReadLine(pipe_fds[0]);
  close(pipe_fds[0]);
  if (line.empty()) return Ended(name);
  return line;
}

absl::StatusOr<std::string> LocalCluster::SpawnDashboard(const std::string& listen) {
  if (listen.empty()) return "";
  const auto line = Spawn("dashboard", "espalier",
                          {"--server", address_, "dashboard", "--listen", listen, "--next-port"},
                          Variables::kWithoutConnection);
  if (line.ok()) return WordValue(*line, "url");
  // It is not one that ends later on.
  if (!children_.empty() && children_.back().name == "dashboard") {
    kill(children_.back().pid, SIGKILL);
    waitpid(children_.back().pid, nullptr, 0);
    children_.pop_back();
  }
  return line.status();
}

absl::StatusOr<std::unique_ptr<LocalCluster>> LocalCluster::Start(
    const LocalClusterOptions& options) {
  std::error_code error;
  if (!std::filesystem::is_directory(options.data_root, error)) {
    return base::NotFound("DATA_ROOT_NOT_FOUND",
                          fmt::format("expected a folder with data sets at '{}', found none; name "
                                      "one with --data-root (the repository's own is its data/)",
                                      options.data_root));
  }
  std::unique_ptr<LocalCluster> cluster(new LocalCluster());
  cluster->log_dir_ = options.data_dir + "/logs";
  std::filesystem::create_directories(cluster->log_dir_, error);
  if (error) {
    return base::FailedPrecondition(
        "DATA_DIR_UNUSABLE",
        fmt::format("expected a writable folder at '{}': {}", options.data_dir, error.message()));
  }
  ESPALIER_ASSIGN_OR_RETURN(
      const std::string line,
      cluster->Spawn("coordinator", "espalier-coordinator",
                     {"--listen", options.listen, "--metrics-listen", options.metrics_listen,
                      "--data-dir", options.data_dir, "--models", options.models}));
  cluster->address_ = WordValue(line, "address");
  cluster->metrics_address_ = WordValue(line, "metrics");
  for (int i = 1; i <= options.workers; ++i) {
    const std::string name = "worker-" + std::to_string(i);
    ESPALIER_ASSIGN_OR_RETURN(
        const std::string worker,
        cluster->Spawn(name, "espalier-worker",
                       {"--coordinator", cluster->address_, "--id", name, "--data-root",
                        options.data_root, "--state-dir", options.data_dir + "/" + name,
                        "--threads", std::to_string(options.threads)}));
    cluster->worker_metrics_.push_back(WordValue(worker, "metrics"));
  }
  cluster->dashboard_url_ = cluster->SpawnDashboard(options.dashboard_listen);
  return cluster;
}

std::optional<LocalCluster::End> LocalCluster::Check() {
  for (Child& child : children_) {
    if (child.pid > 0 && waitpid(child.pid, nullptr, WNOHANG) == child.pid) {
      child.pid = -1;
      return End{child.name, Ended(child.name)};
    }
  }
  return std::nullopt;
}

LocalCluster::~LocalCluster() { StopAll(); }

void LocalCluster::StopAll() {
  // Workers first, so that the coordinator does not log them as lost.
  for (auto child = children_.rbegin(); child != children_.rend(); ++child) {
    if (child->pid > 0) kill(child->pid, SIGTERM);
  }
  const auto deadline = steady_clock::now() + kStopTimeout;
  for (Child& child : children_) {
    while (child.pid > 0) {
      if (waitpid(child.pid, nullptr, WNOHANG) == child.pid) {
        child.pid = -1;
      } else if (steady_clock::now() > deadline) {
        kill(child.pid, SIGKILL);
        waitpid(child.pid, nullptr, 0);
        child.pid = -1;
      } else {
        std::this_thread::sleep_for(kPoll);
      }
    }
  }
}

}  // namespace espalier::cli
