#include "common/metrics/http_server.h"

#include <microhttpd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <list>
#include <string_view>
#include <utility>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/net/acceptor.h"
#include "common/net/listener.h"

namespace espalier::metrics {
namespace {

using std::chrono::steady_clock;

constexpr unsigned int kSilenceSeconds = 10;
constexpr size_t kRequestBytes = 8 * 1024;
constexpr auto kPageAge = std::chrono::milliseconds(100);
constexpr auto kHandOver = std::chrono::milliseconds(100);
// The library's own limit, which must not be reached: it refuses the newest instead of the oldest.
constexpr unsigned int kRoomAboveLimit = 256;
constexpr int kNiceness = 10;

// Where processors are short, a scrape waits for rounds and not the other way round. Linux keeps a
// niceness for every thread.
void GiveWayToRounds() {
  thread_local const int done = setpriority(PRIO_PROCESS, 0, kNiceness);
  static_cast<void>(done);
}

}  // namespace

struct HttpServer::Impl {
  std::function<std::string()> page;
  HttpLimits limits;
  std::string address;

  // Of the answering thread alone.
  std::list<int> open;  // oldest first
  std::string text;
  steady_clock::time_point made{};

  // Connections that the accepting thread handed over and the answering one has not begun.
  base::Mutex mutex;
  base::CondVar begun;
  int handed_over ABSL_GUARDED_BY(mutex) = 0;

  // Declared last, destroyed first: the acceptor uses the daemon, both use what is above.
  std::unique_ptr<MHD_Daemon, decltype(&MHD_stop_daemon)> daemon{nullptr, &MHD_stop_daemon};
  std::unique_ptr<net::Acceptor> acceptor;

  void HandOver(int fd);
  void Begin(int fd);
  const std::string& Page();
  MHD_Result Answer(MHD_Connection* connection, std::string_view url, std::string_view method);
};

namespace {

int SocketOf(MHD_Connection* connection) {
  const MHD_ConnectionInfo* info =
      MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  return info == nullptr ? -1 : info->connect_fd;
}

MHD_Result Respond(MHD_Connection* connection, unsigned int code, std::string_view text,
                   const char* header, const char* value) {
  MHD_Response* response = MHD_create_response_from_buffer(
      text.size(), const_cast<char*>(text.data()), MHD_RESPMEM_MUST_COPY);
  if (response == nullptr) return MHD_NO;
  MHD_add_response_header(response, header, value);
  const MHD_Result queued = MHD_queue_response(connection, code, response);
  MHD_destroy_response(response);
  return queued;
}

}  // namespace

// On the accepting thread. Waits until the answering one has taken the connection up, so that the
// limit holds however fast connections come.
void HttpServer::Impl::HandOver(int fd) {
  GiveWayToRounds();
  {
    const base::MutexLock lock(mutex);
    ++handed_over;
  }
  // Closes `fd` when it fails. The address is only for access lists, which there are none of.
  sockaddr_storage peer{};
  peer.ss_family = AF_INET;
  MHD_add_connection(daemon.get(), fd, reinterpret_cast<sockaddr*>(&peer),
                     sizeof(sockaddr_storage));
  const base::MutexLock lock(mutex);
  begun.WaitFor(mutex, kHandOver,
                [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) { return handed_over == 0; });
  handed_over = 0;
}

void HttpServer::Impl::Begin(int fd) {
  GiveWayToRounds();
  open.push_back(fd);
  // The answering thread sees the end of the connection and closes it.
  if (open.size() > static_cast<size_t>(limits.connections)) {
    shutdown(open.front(), SHUT_RDWR);
    // Behind the others, so that the next one over the limit ends another connection.
    open.splice(open.end(), open, open.begin());
  }
  const base::MutexLock lock(mutex);
  handed_over = 0;
  begun.NotifyOne();
}

const std::string& HttpServer::Impl::Page() {
  const auto now = steady_clock::now();
  if (text.empty() || now - made > kPageAge) {
    text = page();
    made = now;
  }
  return text;
}

MHD_Result HttpServer::Impl::Answer(MHD_Connection* connection, std::string_view url,
                                    std::string_view method) {
  if (method != "GET" && method != "HEAD") {
    return Respond(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "expected GET or HEAD\n",
                   MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
  }
  if (url != "/metrics") {
    return Respond(connection, MHD_HTTP_NOT_FOUND, "expected /metrics\n",
                   MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; charset=utf-8");
  }
  return Respond(connection, MHD_HTTP_OK, Page(), MHD_HTTP_HEADER_CONTENT_TYPE,
                 "text/plain; version=0.0.4; charset=utf-8");
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& listen,
                                                              std::function<std::string()> page,
                                                              const HttpLimits& limits) {
  ESPALIER_ASSIGN_OR_RETURN(net::Listener listener,
                            net::Listener::Open(listen, "--metrics-listen"));
  auto impl = std::make_unique<Impl>();
  Impl* const self = impl.get();
  impl->page = std::move(page);
  impl->limits = limits;
  impl->address = listener.address();
  const MHD_AccessHandlerCallback answer =
      [](void* context, MHD_Connection* connection, const char* url, const char* method,
         const char*, const char*, size_t* upload_size, void**) -> MHD_Result {
    *upload_size = 0;  // a body is read and forgotten
    return static_cast<Impl*>(context)->Answer(connection, url, method);
  };
  const MHD_NotifyConnectionCallback changed = [](void* context, MHD_Connection* connection, void**,
                                                  MHD_ConnectionNotificationCode code) {
    auto* const server = static_cast<Impl*>(context);
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
      server->Begin(SocketOf(connection));
    } else {
      server->open.remove(SocketOf(connection));
    }
  };
  impl->daemon.reset(MHD_start_daemon(
      MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_USE_NO_LISTEN_SOCKET, 0, nullptr, nullptr,
      answer, self, MHD_OPTION_NOTIFY_CONNECTION, changed, self, MHD_OPTION_CONNECTION_TIMEOUT,
      kSilenceSeconds, MHD_OPTION_CONNECTION_MEMORY_LIMIT, kRequestBytes,
      MHD_OPTION_CONNECTION_LIMIT, static_cast<unsigned int>(limits.connections) + kRoomAboveLimit,
      MHD_OPTION_END));
  if (impl->daemon == nullptr) {
    return base::MakeError(absl::StatusCode::kResourceExhausted, "METRICS_UNAVAILABLE",
                           "expected to start a thread and an epoll for /metrics, found no "
                           "descriptors or memory for them; raise the process's limits");
  }
  impl->acceptor = std::make_unique<net::Acceptor>(
      std::move(listener),
      net::AcceptorOptions{limits.below,
                           [self](int, int fd, const std::string&) { self->HandOver(fd); },
                           [](net::Refusal, const std::string&) {}});
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() = default;

const std::string& HttpServer::address() const { return impl_->address; }

}  // namespace espalier::metrics
