// Who may ask: checks of a request's headers, against pages of other sites that a browser has open.
//
// Host:      a name that another site's owner points at this address is not one of ours (DNS rebinding).
// Actions:   come from our own page alone: by Origin and Sec-Fetch-Site, which pages cannot write, and
//            by a token that other sites cannot read.
// Threading: pure functions, but for MakeCsrfToken().
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "client/dashboard/http/message.h"

namespace espalier::dashboard {

class HostRules {
 public:
  // `listen` is HOST:PORT as it was bound; `names` are further hosts, with or without a port. Errors:
  // InvalidArgument INVALID_HOST for a name that no Host header can have.
  static absl::StatusOr<HostRules> Make(const std::string& listen,
                                        const std::vector<std::string>& names);

  bool Allows(std::string_view host) const;
  // For people: what is allowed.
  std::string Described() const;

 private:
  std::vector<std::string> hosts_;  // in lower case, with their ports
  std::vector<std::string> names_;  // in lower case; any port
  std::string numeric_port_;        // any address as a number with this port; "" for none
};

// Why a request of the API is refused whatever it asks for; nothing: it is not.
std::optional<std::string> CrossSiteFault(const Request& request);
// Why an action is refused; nothing: it is not.
std::optional<std::string> ActionFault(const Request& request, std::string_view csrf_token);

// 256 random bits as text.
std::string MakeCsrfToken();

// Headers of every reply.
std::vector<std::pair<std::string, std::string>> SecurityHeaders();

}  // namespace espalier::dashboard
