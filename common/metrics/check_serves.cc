#include "common/base/status.h"
#include "common/metrics/metrics.h"
#include "common/net/http_probe.h"

namespace espalier::metrics {

absl::Status CheckServes(const std::string& listen) {
  ESPALIER_ASSIGN_OR_RETURN(const net::Address address,
                            net::ParseAddress(listen, "--metrics-listen"));
  if (net::ServesHttp(address, "GET /metrics")) return absl::OkStatus();
  return base::MakeError(absl::StatusCode::kUnavailable, "NOT_SERVING",
                         "expected a process that serves /metrics on " + listen + ", found none");
}

}  // namespace espalier::metrics
