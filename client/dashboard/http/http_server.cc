#include "client/dashboard/http/http_server.h"

#include <microhttpd.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <climits>
#include <map>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "client/dashboard/http/exchange.h"
#include "client/dashboard/http/worker_pool.h"
#include "common/base/mutex.h"
#include "common/base/sleep.h"
#include "common/base/status.h"
#include "common/net/acceptor.h"

namespace espalier::dashboard {
namespace {

constexpr unsigned int kSilenceSeconds = 30;
constexpr absl::Duration kWholeRequest = absl::Seconds(60);
constexpr size_t kHeadBytes = 32 * 1024;
constexpr size_t kBlockBytes = 16 * 1024;
// Of a body that is too large, so much is read all the same, since who still sends would not read the
// reply. Beyond that the connection is ended.
constexpr size_t kReadInVain = 8 << 20;
// The library's own limit, which must not be reached: it refuses the newest instead of the idlest.
constexpr unsigned int kRoomAboveLimit = 256;
constexpr auto kTick = std::chrono::seconds(1);

using SharedExchange = std::shared_ptr<Exchange>;

struct Connection {
  int socket = -1;
  absl::Time since;  // it was opened, or its last reply was sent
  SharedExchange exchange;
  bool answering = false;  // the request is whole
};

}  // namespace

struct HttpServer::Impl {
  Handlers handlers;
  HttpLimits limits;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string address;
  std::atomic<bool> stopping = false;

  base::Mutex mutex;
  std::map<MHD_Connection*, Connection> connections ABSL_GUARDED_BY(mutex);

  std::shared_ptr<WorkerPool> pool;
  std::unique_ptr<MHD_Daemon, decltype(&MHD_stop_daemon)> daemon{nullptr, &MHD_stop_daemon};
  std::unique_ptr<net::Acceptor> acceptor;
  std::jthread ticker;

  void Opened(MHD_Connection* connection);
  void Closed(MHD_Connection* connection);
  void* Began(MHD_Connection* connection, const char* target);
  void Completed(MHD_Connection* connection, SharedExchange* exchange);
  MHD_Result Called(MHD_Connection* connection, const SharedExchange& exchange, const char* method,
                    const char* data, size_t* size);
  MHD_Result Start(MHD_Connection* connection, const SharedExchange& exchange, const char* method);
  MHD_Result Whole(MHD_Connection* connection, const SharedExchange& exchange);
  MHD_Result Finish(MHD_Connection* connection, const SharedExchange& exchange);
  MHD_Result Send(MHD_Connection* connection, const SharedExchange& exchange, const Reply& reply);
  void Tick();
  void Stop();
};

namespace {

MHD_Result AddHeader(void* headers, MHD_ValueKind, const char* key, const char* value) {
  auto& map = *static_cast<std::map<std::string, std::string, std::less<>>*>(headers);
  const std::string text = value == nullptr ? "" : value;
  const auto [entry, is_new] = map.try_emplace(absl::AsciiStrToLower(key), text);
  if (!is_new) entry->second += ", " + text;
  return MHD_YES;
}

// The library reads a live body.
ssize_t ReadLive(void* context, uint64_t, char* to, size_t room) {
  Exchange& exchange = **static_cast<SharedExchange*>(context);
  const std::shared_ptr<LiveBody> body = exchange.live();
  for (;;) {
    exchange.ClearWoken();
    if (body == nullptr || exchange.gone()) return MHD_CONTENT_READER_END_WITH_ERROR;
    size_t count = 0;
    switch (body->Read(to, room, count)) {
      case LiveBody::Progress::kBytes:
        return static_cast<ssize_t>(count);
      case LiveBody::Progress::kEnd:
        return MHD_CONTENT_READER_END_OF_STREAM;
      case LiveBody::Progress::kBroken:
        return MHD_CONTENT_READER_END_WITH_ERROR;
      case LiveBody::Progress::kWait:
        if (exchange.Suspend()) return 0;
    }
  }
}

MHD_Response* ResponseOf(const SharedExchange& exchange, const Reply& reply) {
  if (reply.live != nullptr) {
    reply.live->Listen([weak = std::weak_ptr<Exchange>(exchange)] {
      if (const auto self = weak.lock()) self->Wake();
    });
    exchange->SetLive(reply.live);
    const uint64_t size =
        reply.live_bytes < 0 ? MHD_SIZE_UNKNOWN : static_cast<uint64_t>(reply.live_bytes);
    return MHD_create_response_from_callback(
        size, kBlockBytes, &ReadLive, new SharedExchange(exchange),
        [](void* context) { delete static_cast<SharedExchange*>(context); });
  }
  if (reply.body == nullptr) {
    return MHD_create_response_from_buffer(0, nullptr, MHD_RESPMEM_PERSISTENT);
  }
  using Text = std::shared_ptr<const std::string>;
  return MHD_create_response_from_buffer_with_free_callback_cls(
      reply.body->size(), const_cast<char*>(reply.body->data()),
      [](void* context) { delete static_cast<Text*>(context); }, new Text(reply.body));
}

}  // namespace

void HttpServer::Impl::Opened(MHD_Connection* connection) {
  const base::MutexLock lock(mutex);
  connections[connection] = {SocketOf(connection), absl::Now(), nullptr, false};
  if (connections.size() <= limits.connections) return;
  // The library sees the end of the connection and closes it. Where all are answered, that is the new
  // one.
  const Connection* idlest = &connections[connection];
  for (const auto& [other, state] : connections) {
    if (!state.answering && state.since < idlest->since) idlest = &state;
  }
  shutdown(idlest->socket, SHUT_RDWR);
}

void HttpServer::Impl::Closed(MHD_Connection* connection) {
  const base::MutexLock lock(mutex);
  connections.erase(connection);
}

void* HttpServer::Impl::Began(MHD_Connection* connection, const char* target) {
  auto exchange = std::make_shared<Exchange>(connection, target, &stopping);
  const base::MutexLock lock(mutex);
  connections[connection].exchange = exchange;
  return new SharedExchange(std::move(exchange));
}

void HttpServer::Impl::Completed(MHD_Connection* connection, SharedExchange* exchange) {
  if (exchange == nullptr) return;
  (*exchange)->Over();
  delete exchange;
  const base::MutexLock lock(mutex);
  Connection& state = connections[connection];
  state.exchange = nullptr;
  state.answering = false;
  state.since = absl::Now();
}

MHD_Result HttpServer::Impl::Send(MHD_Connection* connection, const SharedExchange& exchange,
                                  const Reply& reply) {
  exchange->stage = Exchange::Stage::kReplying;
  MHD_Response* response = ResponseOf(exchange, reply);
  if (response == nullptr) return MHD_NO;
  for (const auto* list : {&std::as_const(headers), &reply.headers}) {
    // The library refuses a value with line feeds, which is then left out.
    for (const auto& [name, value] : *list) {
      MHD_add_response_header(response, name.c_str(), value.c_str());
    }
  }
  const MHD_Result queued = MHD_queue_response(connection, reply.status, response);
  MHD_destroy_response(response);
  return queued;
}

// The head of a request is there.
MHD_Result HttpServer::Impl::Start(MHD_Connection* connection, const SharedExchange& exchange,
                                   const char* method) {
  exchange->stage = Exchange::Stage::kReceiving;
  Request& request = exchange->request;
  request.method = method;
  MHD_get_connection_values(connection, MHD_HEADER_KIND, &AddHeader, &request.headers);
  absl::StatusOr<Target> target = ParseTarget(exchange->raw_target());
  if (!target.ok()) {
    return Send(connection, exchange,
                handlers.refuse(MHD_HTTP_BAD_REQUEST, base::MessageOf(target.status())));
  }
  request.target = *std::move(target);
  std::optional<Reply> reply = handlers.begin(request);
  uint64_t announced = 0;
  if (absl::SimpleAtoi(request.Header("content-length"), &announced) && announced > kReadInVain) {
    exchange->received = announced;
    return reply.has_value() ? Send(connection, exchange, *reply) : Whole(connection, exchange);
  }
  // Sent once the body is there, and forgotten: a reply before that would end the connection.
  if (reply.has_value()) exchange->SetReply(*std::move(reply));
  return MHD_YES;
}

// The request is whole, or its body too large to be read.
MHD_Result HttpServer::Impl::Whole(MHD_Connection* connection, const SharedExchange& exchange) {
  if (exchange->received > limits.body_bytes) {
    return Send(connection, exchange,
                handlers.refuse(MHD_HTTP_CONTENT_TOO_LARGE,
                                "expected a body of at most " + std::to_string(limits.body_bytes) +
                                    " bytes, found a larger one; send less"));
  }
  {
    const base::MutexLock lock(mutex);
    connections[connection].answering = true;
  }
  if (const std::optional<Reply> reply = exchange->TakeReply()) {
    return Send(connection, exchange, *reply);
  }
  exchange->stage = Exchange::Stage::kWorking;
  exchange->ClearWoken();
  const bool taken = pool->Post([this, exchange] {
    // Nobody waits for it any more.
    if (exchange->gone()) return;
    exchange->SetReply(handlers.finish(exchange->request));
  });
  if (!taken) {
    return Send(connection, exchange,
                handlers.refuse(MHD_HTTP_SERVICE_UNAVAILABLE,
                                "expected to have a thread for this request soon, found too many "
                                "requests that wait for one; try again in a moment"));
  }
  return Finish(connection, exchange);
}

MHD_Result HttpServer::Impl::Finish(MHD_Connection* connection, const SharedExchange& exchange) {
  for (;;) {
    if (const std::optional<Reply> reply = exchange->TakeReply()) {
      return Send(connection, exchange, *reply);
    }
    if (exchange->gone()) return MHD_NO;
    if (exchange->Suspend()) return MHD_YES;
    exchange->ClearWoken();
  }
}

MHD_Result HttpServer::Impl::Called(MHD_Connection* connection, const SharedExchange& exchange,
                                    const char* method, const char* data, size_t* size) {
  if (stopping) return MHD_NO;
  switch (exchange->stage) {
    case Exchange::Stage::kNew:
      return Start(connection, exchange, method);
    case Exchange::Stage::kReceiving: {
      if (*size == 0) return Whole(connection, exchange);
      exchange->received += *size;
      if (exchange->received <= limits.body_bytes) exchange->request.body.append(data, *size);
      *size = 0;
      return exchange->received > kReadInVain ? MHD_NO : MHD_YES;
    }
    case Exchange::Stage::kWorking:
      return Finish(connection, exchange);
    case Exchange::Stage::kReplying:
      *size = 0;
      return MHD_YES;
  }
  return MHD_NO;
}

void HttpServer::Impl::Tick() {
  const absl::Time now = absl::Now();
  std::vector<SharedExchange> open;
  {
    const base::MutexLock lock(mutex);
    for (const auto& [connection, state] : connections) {
      if (state.exchange != nullptr) open.push_back(state.exchange);
      if (!state.answering && now - state.since > kWholeRequest) shutdown(state.socket, SHUT_RDWR);
    }
  }
  for (const SharedExchange& exchange : open) exchange->Tick(now);
}

// In this order: nothing comes, nothing is suspended, nothing is sent, nothing is worked on.
void HttpServer::Impl::Stop() {
  acceptor = nullptr;
  ticker = {};
  stopping = true;
  std::vector<SharedExchange> open;
  {
    const base::MutexLock lock(mutex);
    for (const auto& [connection, state] : connections) {
      if (state.exchange != nullptr) open.push_back(state.exchange);
    }
  }
  for (const SharedExchange& exchange : open) exchange->GiveUp();
  daemon = nullptr;
  pool->Close();
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(
    net::Listener listener, Handlers handlers, std::shared_ptr<WorkerPool> pool,
    const HttpLimits& limits, std::vector<std::pair<std::string, std::string>> headers) {
  auto impl = std::make_unique<Impl>();
  Impl* const self = impl.get();
  impl->handlers = std::move(handlers);
  impl->limits = limits;
  impl->headers = std::move(headers);
  impl->address = listener.address();
  impl->pool = std::move(pool);
  const MHD_AccessHandlerCallback called =
      [](void* context, MHD_Connection* connection, const char*, const char* method, const char*,
         const char* data, size_t* size, void** exchange) -> MHD_Result {
    return static_cast<Impl*>(context)->Called(connection, *static_cast<SharedExchange*>(*exchange),
                                               method, data, size);
  };
  using BeganCallback = void* (*)(void*, const char*, MHD_Connection*);
  const BeganCallback began = [](void* context, const char* target, MHD_Connection* connection) {
    return static_cast<Impl*>(context)->Began(connection, target);
  };
  const MHD_RequestCompletedCallback completed = [](void* context, MHD_Connection* connection,
                                                    void** exchange, MHD_RequestTerminationCode) {
    static_cast<Impl*>(context)->Completed(connection, static_cast<SharedExchange*>(*exchange));
    *exchange = nullptr;
  };
  const MHD_NotifyConnectionCallback changed = [](void* context, MHD_Connection* connection, void**,
                                                  MHD_ConnectionNotificationCode code) {
    auto* const server = static_cast<Impl*>(context);
    code == MHD_CONNECTION_NOTIFY_STARTED ? server->Opened(connection) : server->Closed(connection);
  };
  impl->daemon.reset(MHD_start_daemon(
      MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_USE_NO_LISTEN_SOCKET |
          MHD_ALLOW_SUSPEND_RESUME,
      0, nullptr, nullptr, called, self, MHD_OPTION_URI_LOG_CALLBACK, began, self,
      MHD_OPTION_NOTIFY_COMPLETED, completed, self, MHD_OPTION_NOTIFY_CONNECTION, changed, self,
      MHD_OPTION_CONNECTION_TIMEOUT, kSilenceSeconds, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
      kHeadBytes, MHD_OPTION_CONNECTION_LIMIT,
      static_cast<unsigned int>(limits.connections) + kRoomAboveLimit, MHD_OPTION_END));
  if (impl->daemon == nullptr) {
    return base::MakeError(absl::StatusCode::kResourceExhausted, "HTTP_UNAVAILABLE",
                           "expected to start a thread and an epoll for HTTP, found no descriptors "
                           "or memory for them; raise the process's limits");
  }
  impl->ticker = std::jthread([self](const std::stop_token& stop) {
    while (base::SleepUnlessStopped(kTick, stop)) self->Tick();
  });
  impl->acceptor = std::make_unique<net::Acceptor>(
      std::move(listener),
      net::AcceptorOptions{INT_MAX,
                           [self](int, int fd, const std::string&) {
                             // The address is only for access lists, which there are none of.
                             sockaddr_storage peer{};
                             peer.ss_family = AF_INET;
                             MHD_add_connection(self->daemon.get(), fd,
                                                reinterpret_cast<sockaddr*>(&peer), sizeof(peer));
                           },
                           [](net::Refusal, const std::string&) {}});
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() { impl_->Stop(); }

const std::string& HttpServer::address() const { return impl_->address; }

}  // namespace espalier::dashboard
