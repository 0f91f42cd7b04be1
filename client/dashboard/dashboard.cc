#include "client/dashboard/dashboard.h"

#include <algorithm>
#include <map>
#include <optional>
#include <stop_token>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "client/dashboard/api.h"
#include "client/dashboard/http/http_server.h"
#include "client/dashboard/http/worker_pool.h"
#include "client/dashboard/replies.h"
#include "client/dashboard/request_checks.h"
#include "client/dashboard/routes.h"
#include "client/dashboard/static_files.h"
#include "client/dashboard/streams/connection_monitor.h"
#include "client/dashboard/streams/hub.h"
#include "client/dashboard/streams/watched_boards.h"
#include "common/base/status.h"
#include "common/net/listener.h"
#include "common/rpc/address.h"
#include "fmt/format.h"

namespace espalier::dashboard {
namespace {

// Calls at once. With the watches of the hub and the downloads they stay below the 64 calls that a
// coordinator takes of a connection.
constexpr size_t kThreads = 16;
constexpr size_t kWaiting = 1000;
constexpr int kMostPorts = 20;
constexpr int kLastPort = 65535;

absl::Status CheckExposure(const DashboardOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const net::Address address,
                            net::ParseAddress(options.listen, "--listen"));
  if (options.expose || rpc::IsLoopback({address.host, 1})) return absl::OkStatus();
  return base::InvalidArgument(
      "LISTEN_EXPOSED",
      fmt::format(
          "expected --listen with an address of this machine alone, such as 127.0.0.1:7080, "
          "found {}, which other machines reach; whoever reaches the page sees and does what "
          "this client may, without a password: put a proxy that asks who comes in front, or "
          "say --expose",
          options.listen));
}

absl::StatusOr<net::Listener> Listen(const DashboardOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const net::Address address,
                            net::ParseAddress(options.listen, "--listen"));
  int port = 0;
  const bool numbered = absl::SimpleAtoi(address.port, &port) && port > 0;
  const std::string host = options.listen.substr(0, options.listen.rfind(':'));
  const int most = options.next_port && numbered ? std::min(port + kMostPorts, kLastPort) : port;
  for (; port < most; ++port) {
    absl::StatusOr<net::Listener> listener =
        net::Listener::Open(fmt::format("{}:{}", host, port), "--listen");
    if (listener.ok() || base::ReasonOf(listener.status()) != "PORT_IN_USE") return listener;
  }
  return net::Listener::Open(fmt::format("{}:{}", host, port), "--listen");
}

// A client whose watches break when the connection does: here it is noticed once for all of them.
absl::StatusOr<std::unique_ptr<client::Client>> MakeClient(client::ClientOptions options,
                                                           const std::stop_token& stop) {
  options.stop = stop;
  options.reconnect_for = absl::ZeroDuration();
  return client::Client::Create(std::move(options));
}

WatchJob WatchWith(client::Client& client) {
  return [&client](const std::string& job, int64_t after,
                   const std::function<void(const v1::JobEvent&)>& on_event,
                   const std::stop_token& stop, absl::Time deadline) {
    absl::Status cause;
    const absl::Status status = client.WatchJob(
        job, after, on_event, [&cause](const absl::Status& lost) { cause = lost; }, stop, deadline);
    // The client's own words are about a wait that was given up.
    return status.code() == absl::StatusCode::kUnavailable && !cause.ok() ? cause : status;
  };
}

}  // namespace

struct Dashboard::Impl {
  std::stop_source stop;
  std::string csrf_token = MakeCsrfToken();
  std::shared_ptr<WorkerPool> pool = std::make_shared<WorkerPool>(kThreads, kWaiting);
  std::unique_ptr<client::Client> client;
  std::optional<HostRules> hosts;
  std::unique_ptr<ConnectionMonitor> monitor;
  std::unique_ptr<Hub> hub;
  std::unique_ptr<Api> api;
  std::unique_ptr<HttpServer> http;

  std::optional<Reply> Begin(const Request& request) const;
  Reply Finish(const Request& request) const;
};

std::optional<Reply> Dashboard::Impl::Begin(const Request& request) const {
  if (!hosts->Allows(request.Header("host"))) {
    return RefusalReply(
        421, "HOST_UNKNOWN",
        fmt::format("expected the header Host to be one of {}, found another one; open the page by "
                    "one of these, or start the dashboard with --allow-host NAME",
                    hosts->Described()));
  }
  if (!IsApi(request.target)) {
    if (request.method != "GET" && request.method != "HEAD") {
      Reply reply = RefusalReply(405, "METHOD_NOT_ALLOWED", "expected GET or HEAD for the page");
      reply.headers.emplace_back("Allow", "GET, HEAD");
      return reply;
    }
    std::optional<Reply> reply = StaticReply(request, WebFiles());
    if (reply.has_value()) return reply;
    return RefusalReply(404, "FILE_NOT_FOUND",
                        "expected a file of the page, found none of that name");
  }
  if (const auto fault = CrossSiteFault(request)) return RefusalReply(403, "CROSS_SITE", *fault);
  const Routing routing = FindRoute(request.method, request.target);
  if (!routing.route.has_value() && !routing.allowed.empty()) {
    const std::string allowed = absl::StrJoin(routing.allowed, ", ");
    Reply reply =
        RefusalReply(405, "METHOD_NOT_ALLOWED", fmt::format("expected {} for this path", allowed));
    reply.headers.emplace_back("Allow", allowed);
    return reply;
  }
  if (!routing.route.has_value()) {
    return RefusalReply(404, "PATH_NOT_FOUND",
                        "expected a path of the API, such as /api/v1/jobs, found another one; "
                        "docs/reference/dashboard-api.md has all of them");
  }
  if (!IsAction(routing.route->call)) return std::nullopt;
  if (const auto fault = ActionFault(request, csrf_token)) {
    return RefusalReply(403, "ACTION_REFUSED", *fault);
  }
  return std::nullopt;
}

Reply Dashboard::Impl::Finish(const Request& request) const {
  // Begin() has found it.
  return api->Handle(*FindRoute(request.method, request.target).route, request);
}

absl::StatusOr<std::unique_ptr<Dashboard>> Dashboard::Start(DashboardOptions options) {
  if (WebFiles().empty()) {
    return base::FailedPrecondition("DASHBOARD_NOT_BUILT",
                                    "expected a program with the dashboard's pages, found one that "
                                    "was built without them; build "
                                    "it with -DESPALIER_DASHBOARD=ON");
  }
  ESPALIER_RETURN_IF_ERROR(CheckExposure(options));
  auto impl = std::make_unique<Impl>();
  Impl* const self = impl.get();
  ESPALIER_ASSIGN_OR_RETURN(impl->client, MakeClient(options.client, impl->stop.get_token()));
  ESPALIER_ASSIGN_OR_RETURN(net::Listener listener, Listen(options));
  ESPALIER_ASSIGN_OR_RETURN(impl->hosts, HostRules::Make(listener.address(), options.allow_hosts));
  impl->monitor = std::make_unique<ConnectionMonitor>(
      [client = impl->client.get()] { return client->WhoAmI().status(); });
  impl->hub = std::make_unique<Hub>(
      Feeding{
          WatchWith(*impl->client),
          [pool = impl->pool](std::function<void()> task) { return pool->Post(std::move(task)); },
          impl->monitor.get()},
      std::map<std::string, WatchBoard>{{"jobs", BoardOfJobs(*impl->client)},
                                        {"workers", BoardOfWorkers(*impl->client)}});
  impl->api = std::make_unique<Api>(*impl->client, *impl->hub, *impl->monitor,
                                    options.client.server, impl->csrf_token);
  ESPALIER_ASSIGN_OR_RETURN(
      impl->http,
      HttpServer::Start(std::move(listener),
                        {[self](const Request& request) { return self->Begin(request); },
                         [self](const Request& request) { return self->Finish(request); },
                         [](unsigned int http, std::string_view message) {
                           return RefusalReply(http, "REQUEST_REFUSED", message);
                         }},
                        impl->pool, HttpLimits(), SecurityHeaders()));
  return std::unique_ptr<Dashboard>(new Dashboard(std::move(impl)));
}

Dashboard::Dashboard(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Dashboard::~Dashboard() {
  // Calls end first, so that nobody waits for them.
  impl_->stop.request_stop();
  impl_->http = nullptr;
  impl_->api = nullptr;
  impl_->hub = nullptr;
  impl_->monitor = nullptr;
}

const std::string& Dashboard::address() const { return impl_->http->address(); }

std::string Dashboard::url() const {
  const std::string& address = impl_->http->address();
  const size_t colon = address.rfind(':');
  const std::string host = address.substr(0, colon);
  const bool any = host == "0.0.0.0" || host == "[::]";
  return fmt::format("http://{}{}/", any ? "127.0.0.1" : host, address.substr(colon));
}

}  // namespace espalier::dashboard
