#include "worker/session/worker_id.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/escaping.h"
#include "common/base/entropy.h"
#include "common/base/names.h"
#include "common/base/status.h"

namespace espalier::worker::session {
namespace {

constexpr size_t kRandomBytes = 3;
// So many workers on one host get names of their own.
constexpr int kMostOnHost = 10'000;

// Of at most 50 characters, so that there is room behind it.
std::string HostId() {
  char host[256] = "worker";
  gethostname(host, sizeof(host) - 1);
  return base::IdLike(host, "worker");
}

// A socket of this name, which no file stands for and which goes with the process; -1 if another
// process has it.
int TakeName(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = "espalier-worker/" + name;
  // A first byte of 0 makes it one without a file.
  const size_t size = std::min(path.size(), sizeof(address.sun_path) - 1);
  std::memcpy(address.sun_path + 1, path.data(), size);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + size);
  if (fd >= 0 && bind(fd, reinterpret_cast<const sockaddr*>(&address), length) == 0) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

}  // namespace

WorkerId WorkerId::TakeFree() {
  const std::string host = HostId();
  for (int number = 1; number <= kMostOnHost; ++number) {
    const std::string suffix = number == 1 ? "" : "-" + std::to_string(number);
    std::string id = host + suffix;
    const int socket = TakeName(id);
    if (socket >= 0) return WorkerId(std::move(id), socket);
  }
  // Whether it is taken is then for the coordinator to say.
  return WorkerId(host);
}

absl::StatusOr<WorkerId> WorkerId::Choose(const std::string& given, const std::string& state_dir) {
  if (!given.empty()) return WorkerId(given, TakeName(given));
  if (state_dir.empty()) return TakeFree();
  const std::string path = state_dir + "/worker-id";
  std::error_code error;
  if (std::filesystem::exists(path, error) || error) return Kept(path);
  // Folders are carried from host to host, so that the host's name alone would not do.
  std::string id =
      HostId() + "-" + absl::BytesToHexString(base::SystemEntropy().Bytes(kRandomBytes));
  std::filesystem::create_directories(state_dir, error);
  // Under another name first: the file has an id whenever it is there.
  const std::string aside = path + "." + std::to_string(getpid());
  std::ofstream file(aside);
  file << id << "\n";
  file.close();
  if (file) std::filesystem::rename(aside, path, error);
  if (file && !error) return Kept(path);
  return base::FailedPrecondition("STATE_DIR_UNUSABLE",
                                  "expected a folder at --state-dir '" + state_dir +
                                      "' in which files can be written, found none; create it or "
                                      "name another");
}

absl::StatusOr<WorkerId> WorkerId::Kept(const std::string& path) {
  std::ifstream file(path);
  std::string id;
  std::getline(file, id);
  // Others on this host then take other names.
  const int socket = TakeName(id);
  if (base::IsValidId(id)) return WorkerId(std::move(id), socket);
  if (socket >= 0) close(socket);
  return base::FailedPrecondition("STATE_DIR_DAMAGED",
                                  "expected the id of this worker in '" + path + "', found '" + id +
                                      "'; write its id there, or give it with --id");
}

WorkerId::~WorkerId() {
  if (socket_ >= 0) close(socket_);
}

}  // namespace espalier::worker::session
