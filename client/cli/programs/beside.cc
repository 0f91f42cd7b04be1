#include "client/cli/programs/beside.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "client/cli/exit_code.h"
#include "client/cli/programs/local_cluster.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

// What the child returns when the program could not be started.
constexpr int kNotRun = 127;

// The worker's own codes follow sysexits.h; it has said why.
int ExitCodeOfWorker(int code) {
  constexpr int kUsage = 64;
  constexpr int kOutput = 74;
  constexpr int kConfig = 78;
  switch (code) {
    case 0:
      return kExitDone;
    case kUsage:
      return kExitUsage;
    case kOutput:
      return kExitExhausted;
    case kConfig:
      return kExitPrecondition;
    default:
      return kExitUnexpected;
  }
}

absl::Status NotRun(const std::string& program) {
  return base::MakeError(absl::StatusCode::kUnavailable, "PROGRAM_FAILED",
                         fmt::format("expected {} beside this program to run, found that it did "
                                     "not; install it there",
                                     program));
}

// `output`: becomes the child's standard output; −1 leaves it as it is.
pid_t Start(const std::string& program, const std::vector<std::string>& arguments, int output) {
  const std::string path = ProgramPath(program);
  std::vector<char*> argv = {const_cast<char*>(path.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    if (output < 0 || dup2(output, STDOUT_FILENO) >= 0) execv(path.c_str(), argv.data());
    _exit(kNotRun);
  }
  return child;
}

absl::StatusOr<int> WaitFor(const std::string& program, pid_t child) {
  int state = 0;
  pid_t ended = -1;
  do {
    ended = child < 0 ? -1 : waitpid(child, &state, 0);
  } while (ended < 0 && child >= 0 && errno == EINTR);
  if (ended != child || child < 0 || (WIFEXITED(state) && WEXITSTATUS(state) == kNotRun)) {
    return NotRun(program);
  }
  if (WIFSIGNALED(state)) {
    if (WTERMSIG(state) == SIGPIPE) return kExitReaderGone;
    return base::MakeError(absl::StatusCode::kInternal, "PROGRAM_FAILED",
                           fmt::format("{} was ended by signal {} ({})", program, WTERMSIG(state),
                                       strsignal(WTERMSIG(state))));
  }
  return ExitCodeOfWorker(WEXITSTATUS(state));
}

std::string ReadToEnd(int fd) {
  std::string text;
  std::array<char, 1 << 16> block;
  for (;;) {
    const ssize_t got = read(fd, block.data(), block.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(block.data(), static_cast<size_t>(got));
  }
}

}  // namespace

absl::StatusOr<int> RunBeside(const std::string& program,
                              const std::vector<std::string>& arguments) {
  return WaitFor(program, Start(program, arguments, -1));
}

absl::StatusOr<int> ReadBeside(const std::string& program,
                               const std::vector<std::string>& arguments, std::string& text) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return NotRun(program);
  const pid_t child = Start(program, arguments, ends[1]);
  close(ends[1]);
  text = ReadToEnd(ends[0]);
  close(ends[0]);
  return WaitFor(program, child);
}

}  // namespace espalier::cli
