#include "client/dashboard/health.h"

#include "common/base/status.h"
#include "common/net/http_probe.h"

namespace espalier::dashboard {

absl::Status CheckServes(const std::string& listen) {
  ESPALIER_ASSIGN_OR_RETURN(const net::Address address, net::ParseAddress(listen, "--listen"));
  if (net::ServesHttp(address, "HEAD /")) return absl::OkStatus();
  return base::MakeError(absl::StatusCode::kUnavailable, "NOT_SERVING",
                         "expected a dashboard on " + listen + ", found none");
}

}  // namespace espalier::dashboard
